"""The callback that shows trials in a terminal, a notebook or a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import functools
import sys
import threading
from typing import Any
from typing import TextIO
from typing import TYPE_CHECKING

from optuna import Study
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._logging import get_logger
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import diff_texts
from optuna_llm._quoting import shorten
from optuna_llm._study import attributes as stored
from optuna_llm._study.declarations import read_declared_texts


if TYPE_CHECKING:
    from rich.console import Console

_logger = get_logger(__name__)

_LONG_TEXT = 200
_MAX_SHOWN = 2_000


class ConsoleCallback:
    """Show each trial as it ends: rationale, parameters, texts, feedback and value.

    With rich (``pip install "optuna-llm[rich]"``), terminals and notebooks get colors and syntax
    highlighting. Everything else gets plain text. A long text is shown as a diff to its parent's.
    Characters that the output cannot encode are shown as escapes.

    Args:
        file: The file to write to; standard output by default.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_file": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Show a trial."""
        parts = list(_describe(study, trial))
        file = self._file or sys.stdout
        if file is None:
            return  # A process without a console, such as pythonw.
        try:
            with self._lock:
                _write(parts, file, is_default=self._file is None)
        except (OSError, ValueError) as error:
            # Output that cannot be written, to a closed pipe or file, must not end the study.
            _warn_once(str(error))


@functools.cache
def _warn_once(error: str) -> None:
    _logger.warning("ConsoleCallback cannot write its output: %s", error)


@dataclass(frozen=True)
class _Part:
    """A part of what is shown of a trial.

    Attributes:
        text: The text.
        style: Its style in rich's notation.
        language: The language to highlight it as; None for none.
    """

    text: str
    style: str = ""
    language: str | None = None


def _describe(study: Study, trial: FrozenTrial) -> Iterator[_Part]:
    provenance = stored.read_provenance(trial)
    source = f" ({provenance.source})" if provenance.source else ""
    yield _Part(f"trial {trial.number}{source}", "bold")
    if provenance.rationale:
        yield _Part(provenance.rationale, "yellow")
    if trial.params:
        pairs = (f"{name} = {value}" for name, value in trial.params.items())
        yield _Part(", ".join(pairs), "blue")
    yield from _describe_texts(study, trial, provenance.parent)
    if feedback := stored.read_feedback(trial):
        style = "red" if trial.state == TrialState.FAIL else ""
        yield _Part(shorten(feedback, _MAX_SHOWN), style)
    if trial.state == TrialState.COMPLETE:
        yield _Part("value: " + ", ".join(f"{value:.10g}" for value in trial.values), "green")
    else:
        state = "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()
        yield _Part(f"{state}: {provenance.error}" if provenance.error else state, "red")


def _describe_texts(study: Study, trial: FrozenTrial, parent: int | None) -> Iterator[_Part]:
    """The texts with their names; long ones as diffs where those are shorter."""
    texts = stored.read_texts(trial)
    if not texts:
        return
    declared = read_declared_texts(study.user_attrs)
    former = _read_texts(study, parent)
    for name, text in texts.items():
        language = declared[name].language if name in declared else None
        diff = None
        if name in former and len(text) > _LONG_TEXT:
            diff = diff_texts(former[name], text)
        if diff is None or len(diff) >= len(text):
            yield _Part(f"{name}:", "bold blue")
            yield _Part(shorten(text, _MAX_SHOWN), "blue", language)
        elif diff:
            yield _Part(f"{name}, changes to trial {parent}:", "bold blue")
            yield _Part(shorten(diff, _MAX_SHOWN), "blue", "diff")
        else:
            yield _Part(f"{name}: unchanged from trial {parent}", "bold blue")


def _read_texts(study: Study, number: int | None) -> dict[str, str]:
    trials = study.get_trials(deepcopy=False) if number is not None else []
    return next((stored.read_texts(trial) for trial in trials if trial.number == number), {})


def _write(parts: list[_Part], file: TextIO, *, is_default: bool) -> None:
    """Write what is shown of a trial, in color where that is possible."""
    encoding = getattr(file, "encoding", None)
    texts = [_escape(clean_text(part.text), encoding) for part in parts]
    console = _find_console(file, is_default=is_default)
    if console is None:
        file.write("\n".join([*texts, "", ""]))
        file.flush()
        return
    from rich.console import Group
    from rich.syntax import Syntax
    from rich.text import Text

    shown = [
        Syntax(text, part.language, background_color="default")
        if part.language
        else Text(text, part.style)  # Not a string, in which brackets are markup.
        for part, text in zip(parts, texts, strict=True)
    ]
    console.print(Group(*shown, Text()))


def _escape(text: str, encoding: str | None) -> str:
    """The text with escapes for what cannot be encoded."""
    if encoding is None:
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _find_console(file: TextIO, *, is_default: bool) -> Console | None:
    """A console for a terminal or a notebook, if rich is installed."""
    if not file.isatty() and not (is_default and "ipykernel" in sys.modules):
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(file=None if is_default else file)
    return console if file.isatty() or console.is_jupyter else None
