"""The one exception a program turns into a single line on stderr and exit status 2."""


class InputError(Exception):
    """The person's input cannot be used: names the file or field, what was found and what was expected."""


class Stopped(Exception):
    """A run was asked to stop (SIGTERM, SIGINT, SIGUSR1) and has saved its state: running it again resumes."""
