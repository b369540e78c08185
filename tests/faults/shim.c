/* LD_PRELOAD: below FAULT_DIR the FAULT_AT-th call of a kind (FAULT_CALLS: "read" or "write") meets FAULT, one of
 *
 *   stall   it takes FAULT_SEC seconds
 *   short   it, and all later ones, read or write half of what was asked
 *   error   it fails with errno FAULT_ERRNO; FAULT_LATER says which later ones do, too: "none", "file" (those on the
 *           same file, as of a bad sector) or "all" (as on a full disk)
 *
 * Reaches Python and C++ alike. Reading through mmap is no call, and C's own buffered files stay within the library. */
#define _GNU_SOURCE
#include <dirent.h>
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

enum fault { NONE, FAILS, SHORT };

int fault_reads, fault_writes; /* so far, for who wants to know how many there are */
static char bad[4096];

static int is(const char *name, const char *value) {
    const char *text = getenv(name);
    return text && strcmp(text, value) == 0;
}

static int number(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

/* What becomes of a call of a kind on a path; errno is set where it fails. */
static enum fault meets(const char *kind, const char *path) {
    const char *folder = getenv("FAULT_DIR");
    if (!folder || !path || strncmp(path, folder, strlen(folder)) != 0) return NONE;
    int call = __sync_add_and_fetch(*kind == 'r' ? &fault_reads : &fault_writes, 1), at = number("FAULT_AT");
    if (!at || call < at || !is("FAULT_CALLS", kind)) return NONE;
    if (call == at) {
        char told[sizeof bad + 64];
        int length = snprintf(told, sizeof told, "fault injected at %s %s\n", kind, path);
        ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        real(2, told, length);
        snprintf(bad, sizeof bad, "%s", path);
    }
    if (is("FAULT", "short")) return SHORT;
    if (is("FAULT", "stall")) {
        if (call == at) sleep(number("FAULT_SEC"));
        return NONE;
    }
    if (call > at && !is("FAULT_LATER", "all") && !(is("FAULT_LATER", "file") && strcmp(path, bad) == 0)) return NONE;
    errno = number("FAULT_ERRNO");
    return FAILS;
}

static enum fault meets_fd(const char *kind, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return meets(kind, path);
}

/* A call on a descriptor, with `size` bytes to read or write. */
#define SIZED(kind, name, parameters, arguments)                 \
    ssize_t name parameters {                                    \
        static ssize_t(*real) parameters;                        \
        if (!real) real = dlsym(RTLD_NEXT, #name);               \
        int before = errno;                                      \
        enum fault met = meets_fd(kind, fd);                     \
        if (met == FAILS) return -1;                             \
        if (met == SHORT && size > 1) size /= 2;                 \
        errno = before;                                          \
        return real arguments;                                   \
    }

#define WHOLE(kind, result, name, parameters, arguments, met)    \
    result name parameters {                                     \
        static result(*real) parameters;                         \
        if (!real) real = dlsym(RTLD_NEXT, #name);               \
        int before = errno;                                      \
        if ((met) == FAILS) return (result)-1;                   \
        errno = before;                                          \
        return real arguments;                                   \
    }

SIZED("write", write, (int fd, const void *data, size_t size), (fd, data, size))
SIZED("write", pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
SIZED("write", pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
SIZED("read", read, (int fd, void *data, size_t size), (fd, data, size))
SIZED("read", pread, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
SIZED("read", pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))

WHOLE("write", ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), meets_fd("write", fd))
WHOLE("write", int, fsync, (int fd), (fd), meets_fd("write", fd))
WHOLE("write", int, fdatasync, (int fd), (fd), meets_fd("write", fd))
WHOLE("write", int, mkdir, (const char *path, mode_t mode), (path, mode), meets("write", path))
WHOLE("write", int, rename, (const char *from, const char *to), (from, to), meets("write", to))
WHOLE("write", int, ftruncate, (int fd, off_t size), (fd, size), meets_fd("write", fd))
WHOLE("write", int, ftruncate64, (int fd, off64_t size), (fd, size), meets_fd("write", fd))
WHOLE("read", ssize_t, readv, (int fd, const struct iovec *parts, int count), (fd, parts, count), meets_fd("read", fd))

DIR *opendir(const char *path) {
    static DIR *(*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "opendir");
    int before = errno;
    if (meets("read", path) == FAILS) return NULL;
    errno = before;
    return real(path);
}

#define OPEN(name, parameters, arguments)                                           \
    int name parameters {                                                           \
        static int(*real) parameters;                                               \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                  \
        va_list rest;                                                               \
        va_start(rest, flags);                                                      \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;     \
        va_end(rest);                                                               \
        int before = errno;                                                         \
        if (meets(flags & O_CREAT ? "write" : "read", path) == FAILS) return -1;    \
        errno = before;                                                             \
        return real arguments;                                                      \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
