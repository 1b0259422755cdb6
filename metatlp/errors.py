"""The one exception that scripts show to the user as a single line (exit code 2)."""


class InputError(ValueError):
    """Something the user gave is wrong: a flag, a file, a checkpoint.

    The message is one line that names the flag, or the file and line, and what would be right.
    Everything else that is raised is a mistake of ours and keeps its traceback.
    """
