"""The exceptions that scripts show to the user as a single line."""


class InputError(ValueError):
    """Something the user gave is wrong: a flag, a file, a checkpoint. Exit code 2.

    The message is one line that names the flag, or the file and line, and what would be right.
    Everything else that is raised is a mistake of ours and keeps its traceback.
    """


class DivergedError(RuntimeError):
    """Training left the finite numbers. Exit code 1; the last checkpoint is as it was."""
