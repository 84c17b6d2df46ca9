"""Why a trial failed, in words for the model."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import functools
import math
from pathlib import Path
import re
import traceback
from typing import Any
from typing import TypeVar

from optuna import TrialPruned
from optuna.trial import BaseTrial
from optuna.trial import Trial

from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelSetupError
from optuna_llm._quoting import shorten
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._text import report_feedback


_Result = TypeVar("_Result")

_EXPLAINS = "explains_failures"
"""Marks an objective that is wrapped already, also through further wrappers."""

_PACKAGE = str(Path(__file__).parent)

_FRAME = re.compile(r'^(\s*(?:\| +)?File )"([^"\n]+)"', re.MULTILINE)


def explain_failures(objective: Callable[[Trial], _Result]) -> Callable[[Trial], _Result]:
    """Wrap an objective so that the model reads why a trial failed.

    The traceback of an exception is added to the trial's feedback, and so is a returned value
    that is no number, such as NaN or None. The exception is raised again: Optuna fails the trial,
    and ``catch=`` decides whether the study continues. Pruning and an :class:`LLMError` say
    nothing about the candidate and add no feedback; a :class:`ModelSetupError`, such as for a
    judge's wrong key, ends ``study.optimize`` whatever it catches.

    .. code-block:: python

        @explain_failures
        def objective(trial):
            code = suggest_text(trial, "code", START, language="python")
            run = run_python(code + CALL, inputs=CASES, outputs=["answers"], timeout=10)
            if not run.ok:
                raise RuntimeError(run.feedback)
            if run.values["answers"] != EXPECTED:
                raise ValueError("f gives a wrong answer.")
            return run.seconds
    """
    if getattr(objective, _EXPLAINS, False):
        return objective

    @functools.wraps(objective)
    def explained(trial: Trial) -> _Result:
        try:
            value = objective(trial)
            _explain_value(trial, value)
        except ModelSetupError as error:
            if isinstance(trial, Trial):
                internals.end_optimize(trial.study, error)
            raise
        except (TrialPruned, LLMError):
            raise
        except Exception as error:
            add_feedback(trial, describe_error(error))
            raise
        return value

    setattr(explained, _EXPLAINS, True)
    return explained


def add_feedback(trial: BaseTrial, words: str) -> None:
    """Add words to what the evaluator has said of a running trial."""
    report_feedback(trial, f"{stored.read_feedback(trial)}\n{words}".strip())


def _explain_value(trial: Trial, value: Any) -> None:
    """Add feedback if Optuna is going to fail the trial for the value that it returned.

    Raises:
        OverflowError: If it is an int beyond all floats, for which Optuna would leave the trial
            RUNNING.
    """
    if not isinstance(trial, Trial):
        return
    n_objectives = len(trial.study.directions)
    values = value if isinstance(value, Sequence) else [value]
    try:
        if len(values) == n_objectives and not any(math.isnan(float(v)) for v in values):
            return
    except (TypeError, ValueError):
        pass
    wanted = "a number" if n_objectives == 1 else "a number per objective"
    add_feedback(trial, f"The objective returned {shorten(repr(value), 200)}, not {wanted}.")


def describe_error(error: Exception) -> str:
    """The traceback from the user's own first frame on, with short paths."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace or error.__traceback__)
    return _FRAME.sub(lambda match: f'{match[1]}"{_shorten_path(match[2])}"', "".join(lines))


def _shorten_path(name: str) -> str:
    """A file relative to the working directory or to where packages are; else its name alone."""
    path = Path(name)
    for folder in ("site-packages", "dist-packages"):
        if folder in path.parts:
            return "/".join(path.parts[path.parts.index(folder) + 1 :])
    if not path.is_absolute():
        return name
    with contextlib.suppress(OSError, ValueError):
        return path.relative_to(Path.cwd()).as_posix()
    return path.name
