"""The one exception that stands for a mistake of the user. Imports nothing, so that data workers start fast."""


class UserError(ValueError):
    """Something only the user can put right: a wrong path, value or combination.

    The message is one line that names the bad value, the valid choices and what to do. The command line
    prints it without a traceback and exits with status 2.
    """
