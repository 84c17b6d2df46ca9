"""The study page as a file."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from errno import ENOENT
from math import inf
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
    log_file: str | os.PathLike[str] | None = None,
    log_trials: Iterable[int] | None = None,
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
        log_file: What a sampler with ``log_file=`` wrote, or the record of a ``ReplayModel``: the
            file then contains what the model was asked and what it replied, too.
        log_trials: Numbers of the trials of which it contains that; None for all. Each prompt
            repeats most of the history: about 3 kB of the file for one of 30 kB.

    Raises:
        OSError: If the file cannot be written, or the log cannot be read.
        ValueError: If trials are named without a log, or one does not exist.
    """
    if log_file is None:
        if log_trials is not None:
            raise ValueError("log_trials needs log_file, where their calls were logged.")
        page = write_file(PageData(study, prices, inf))
    else:
        page = _write_with_calls(study, prices, Path(log_file), log_trials)
    Path(path).write_text(page, "utf-8", newline="\n")


def _write_with_calls(
    study: Study,
    prices: Prices | Mapping[str, Prices] | None,
    log_file: Path,
    log_trials: Iterable[int] | None,
) -> str:
    """The page with what was said with the model.

    Raises:
        OSError: If the log cannot be read.
        ValueError: If a trial does not exist.
    """
    if not log_file.is_file():
        raise FileNotFoundError(ENOENT, "there is no log of calls", str(log_file))
    n_trials = len(study.get_trials(deepcopy=False))
    numbers = range(n_trials) if log_trials is None else sorted(set(log_trials))
    if missing := [number for number in numbers if not 0 <= number < n_trials]:
        raise ValueError(f"The study has no trial {missing[0]!r}.")
    return write_file(PageData(study, prices, inf, log_file), numbers)
