"""The study page as a file."""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path

from optuna import Study

from optuna_llm._page.data import PageData
from optuna_llm._page.document import write_file
from optuna_llm._study.usage import Prices


def write_report(
    study: Study,
    path: str | os.PathLike[str],
    *,
    prices: Prices | Mapping[str, Prices] | None = None,
) -> None:
    """Write the study page to a single HTML file, which needs no network to be read.

    .. code-block:: python

        write_report(study, "report.html")

    The file contains all texts, rationales and feedback of the study: whoever gets it can read
    them. Its policy forbids any connection.

    Args:
        study: The study, finished or still running.
        path: Where to write it; a file there is replaced.
        prices: The model's prices, as for :func:`optuna_llm.usage`.

    Raises:
        OSError: If the file cannot be written.
    """
    Path(path).write_text(write_file(PageData(study, prices)), "utf-8", newline="\n")
