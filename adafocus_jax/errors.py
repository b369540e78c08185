"""The exceptions that the command line tells in a line, and what helps against those of storage.

Imports none of this package, so that data workers start fast.
"""

import errno
import os


class UserError(ValueError):
    """Something only the user can put right: a wrong path, value or combination.

    The message is one line that names the bad value, the valid choices and what to do. The command line
    prints it without a traceback and exits with status 2.
    """


class ProcessLostError(RuntimeError):
    """Another process of the same run ended or cannot be reached. The command line exits with status 75."""


_REMEDIES = {
    "free space": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "mend the permissions": (errno.EACCES, errno.EPERM, errno.EROFS),
    "raise the limit of open files (ulimit -n)": (errno.EMFILE, errno.ENFILE),
    "check the disk or mount, which fails": (
        errno.EIO,
        errno.ESTALE,
        errno.ENXIO,
        errno.ENODEV,
        errno.ETIMEDOUT,
    ),
}


def remedy(error: BaseException) -> str:
    """What to do about an error of storage, by its number or by that number's text; empty where that is not known.

    Libraries in C++ raise errors without a number, whose text holds the system's.

    >>> remedy(OSError(errno.ENOSPC, "")), remedy(ValueError("cannot read: [OS error 5: Input/output error]"))
    ('free space', 'check the disk or mount, which fails')
    """
    number, text = getattr(error, "errno", None), str(error)
    for advice, numbers in _REMEDIES.items():
        if number in numbers or any(os.strerror(one) in text for one in numbers):
            return advice
    return ""
