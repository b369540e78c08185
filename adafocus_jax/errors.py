"""The exceptions that the command line tells in a line. Imports nothing, so that data workers start fast."""


class UserError(ValueError):
    """Something only the user can put right: a wrong path, value or combination.

    The message is one line that names the bad value, the valid choices and what to do. The command line
    prints it without a traceback and exits with status 2.
    """


class ProcessLostError(RuntimeError):
    """Another process of the same run ended or cannot be reached. The command line exits with status 75."""
