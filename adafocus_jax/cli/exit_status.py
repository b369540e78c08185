"""From the outcome of a command to the exit status of its process."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping

from adafocus_jax.cli.flags import in_flags
from adafocus_jax.errors import ProcessLostError, UserError, remedy

_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


def status_of(
    name: str, work: Callable[[], int], *, debug: bool = False, flags: Mapping[str, str] | None = None
) -> int:
    """Runs ``work`` and returns its exit status; an error is reported in one line, with ``flags`` for arguments.

    One of several processes that fails ends here and now. Else JAX would have it wait for the others, who wait for it
    in the next step, until all are aborted.
    """
    caught: BaseException
    try:
        return work()
    except UserError as error:
        caught, status, message = error, 2, in_flags(str(error), flags or {})
    except ProcessLostError as error:
        caught, status, message = error, _TRY_AGAIN, str(error)
    except KeyboardInterrupt as error:
        caught, status, message = error, 130, "interrupted"
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that is not ours to read, too many open files
        path = f"{error.filename}: " if error.filename else ""
        advice = f": {remedy(error)}" if remedy(error) else ""
        caught, status, message = error, 2, f"{path}{error.strerror or error}{advice} (--debug shows where)"
    except Exception as error:
        if not _is_one_of_several():
            raise
        caught, status, message = error, 1, "failed"
        debug = True
    if debug:
        traceback.print_exception(caught)
    print(f"{name}: {message}", file=sys.stderr)
    if _is_one_of_several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1
