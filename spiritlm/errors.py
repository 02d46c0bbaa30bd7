"""The exceptions that a program turns into a single line on stderr and an exit status of their own."""


class InputError(Exception):
    """Exit status 2. The person's input cannot be used: names the file or field, what was found and what expected."""


class RunError(Exception):
    """Exit status 1. What a run needs of the machine failed, a full disk say; what it saved before stays good."""


class Stopped(Exception):
    """Exit status 143. A run was asked to stop (SIGTERM, SIGINT, SIGUSR1) and has saved its state: run it again."""
