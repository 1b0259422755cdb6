"""python -m metatlp.reproduction COMMAND: the steps of the reproduction that are not scripts."""

import sys
from pathlib import Path

# The project's folder, which `python -m` has put on the path, holds kernels/, which would shadow
# the Hugging Face package that transformers imports.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path.cwd()]

from metatlp.reproduction.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
