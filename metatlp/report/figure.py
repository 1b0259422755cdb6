"""matplotlib, for the reports that draw; the rest of the project does without it."""

from __future__ import annotations

from typing import Any

from metatlp.errors import InputError


def load_pyplot() -> Any:
    """matplotlib.pyplot, drawing to files.

    Raises:
        InputError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            "matplotlib is missing; pip install 'metatlp[report]', or matplotlib alone"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
