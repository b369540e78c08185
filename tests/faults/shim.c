/* LD_PRELOAD: below FAULT_DIR the FAULT_AT-th call that changes the file system fails with errno FAULT_ERRNO, as do all
 * later ones where that is ENOSPC; where it is 0, the call takes FAULT_SEC seconds. Reaches Python and C++ alike. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int calls;

static int number(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

static int within(const char *path) {
    const char *folder = getenv("FAULT_DIR");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int within_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return within(path);
}

/* Whether this call fails; errno is set then. */
static int fails(void) {
    int call = __sync_add_and_fetch(&calls, 1), at = number("FAULT_AT"), error = number("FAULT_ERRNO");
    if (!at || call < at || (call > at && error != ENOSPC)) return 0;
    if (call == at) {
        static const char told[] = "fault injected\n";
        ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        real(2, told, sizeof told - 1);
    }
    if (!error) {
        sleep(number("FAULT_SEC"));
        return 0;
    }
    errno = error;
    return 1;
}

#define WRAP(result, name, parameters, arguments, inside)                   \
    result name parameters {                                                \
        static result(*real) parameters;                                    \
        if (!real) real = dlsym(RTLD_NEXT, #name);                          \
        int before = errno;                                                 \
        if ((inside) && fails()) return -1;                                 \
        errno = before;                                                     \
        return real arguments;                                              \
    }

WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), within_fd(fd))
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), within_fd(fd))
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), within_fd(fd))
WRAP(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), within_fd(fd))
WRAP(int, fsync, (int fd), (fd), within_fd(fd))
WRAP(int, fdatasync, (int fd), (fd), within_fd(fd))
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), within(path))
WRAP(int, rename, (const char *from, const char *to), (from, to), within(to))

#define WRAP_OPEN(name)                                                     \
    int name(const char *path, int flags, ...) {                            \
        static int (*real)(const char *, int, ...);                         \
        if (!real) real = dlsym(RTLD_NEXT, #name);                          \
        va_list rest;                                                       \
        va_start(rest, flags);                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                       \
        int before = errno;                                                 \
        if ((flags & O_CREAT) && within(path) && fails()) return -1;        \
        errno = before;                                                     \
        return real(path, flags, mode);                                     \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)
