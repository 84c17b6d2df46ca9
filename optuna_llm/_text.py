"""Text parameters and feedback: what an objective calls."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
import functools
from pathlib import Path
import traceback
from typing import TypeVar

from optuna import TrialPruned
from optuna.trial import BaseTrial
from optuna.trial import FixedTrial
from optuna.trial import FrozenTrial
from optuna.trial import Trial

from optuna_llm._errors import LLMError
from optuna_llm._records import TextParameter
from optuna_llm._study import attributes as stored


_Result = TypeVar("_Result")

RUNNING: ContextVar[Trial | None] = ContextVar("RUNNING", default=None)
"""The trial whose objective runs in this context, where ``optimize.run`` keeps it from view."""

_PACKAGE = str(Path(__file__).parent)


def suggest_text(
    trial: BaseTrial,
    name: str,
    initial: str,
    *,
    description: str = "",
    language: str | None = None,
) -> str:
    """The value of a free-form parameter: prose, code, JSON, SQL or any other text.

    Under an :class:`LLMSampler` the model writes it; under any other sampler it is
    ``initial``. It is stored as the trial's user attribute ``name``. Asked twice in one trial,
    it is the same text.

    .. code-block:: python

        def objective(trial):
            code = suggest_text(trial, "code", "clf = SVC()", language="python")
            return evaluate(code)

    Args:
        trial: A running trial, or a :class:`~optuna.trial.FrozenTrial` or
            :class:`~optuna.trial.FixedTrial` that holds the text (as a user attribute, in a
            ``FixedTrial`` also among its ``params``).
        name: Name of the parameter; none that a number parameter has.
        initial: The text of trial 0.
        description: What the text is for and what it must keep to, told to the model.
        language: Its language (``"python"``), for the model and for display; None for prose.

    Raises:
        ValueError: If the name is taken or not usable, ``initial`` is no string, or a trial
            that does not run holds no text of this name.
        LLMError: If no text could be had from the model.
    """
    stored.check_text_name(name)
    if not isinstance(initial, str):
        raise ValueError(f"The initial text of {name!r} must be a string: {initial!r}.")
    if name in trial.distributions:
        raise ValueError(f"{name!r} is a number parameter of this trial: name the text otherwise.")
    text = _find_text(trial, name)
    if text is not None:
        return text
    if not isinstance(trial, Trial):
        raise ValueError(
            f"This {type(trial).__name__} holds no text {name!r}: set it as a user attribute."
        )
    parameter = TextParameter(name, description, language, initial)
    stored.declare_text(trial.study, parameter)
    # A number parameter would make Optuna ask the sampler; this property does it for a text.
    _ = trial.relative_params
    text = _find_text(trial, name)
    if text is not None:
        return text
    _store_initial(trial, parameter)
    return initial


def get_texts(trial: Trial | FrozenTrial | FixedTrial) -> dict[str, str]:
    """Every text of a trial, name to text. A long text, stored in pieces, is whole here."""
    return stored.read_texts(trial.user_attrs)


def report_feedback(trial: BaseTrial, feedback: str) -> None:
    """Tell the model of this trial in words; a later call replaces what an earlier one said.

    Args:
        trial: The running trial.
        feedback: What the evaluation found: scores by class, a traceback, a judge's words. Of
            more than a thousand characters or so the model is shown the beginning and the end.

    Raises:
        TypeError: If ``feedback`` is no string.
    """
    if not isinstance(feedback, str):
        raise TypeError(f"Feedback must be a string: {feedback!r}.")
    trial.set_user_attr(stored.FEEDBACK, stored.fit_attribute(feedback))


def explain_failures(objective: Callable[[Trial], _Result]) -> Callable[[Trial], _Result]:
    """Wrap an objective so that the model reads why a trial failed.

    An exception's traceback is added to the trial's feedback, and the exception goes on its
    way: Optuna fails the trial, and ``catch=`` decides whether the study goes on. Pruning, and
    a model that gave no proposal, are no failures of the candidate and are passed on as they
    are.
    """

    @functools.wraps(objective)
    def explained(trial: Trial) -> _Result:
        try:
            return objective(trial)
        except (TrialPruned, LLMError):
            raise
        except Exception as error:
            said = stored.read_feedback(trial.user_attrs)
            report_feedback(trial, f"{said}\n{_describe(error)}".strip())
            raise

    return explained


def _describe(error: Exception) -> str:
    """The traceback from the user's own first frame on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))


def _find_text(trial: BaseTrial, name: str) -> str | None:
    """The text that the trial has already; None where it has none."""
    attributes = trial.user_attrs
    texts = stored.read_texts(attributes)
    if name in texts:
        return texts[name]
    given = stored.read_given_text(attributes, name)
    if given is None and isinstance(trial, FixedTrial):
        given = trial._params.get(name)
    if given is None:
        return None
    if not isinstance(given, str):
        raise ValueError(f"The trial was given {given!r} for the text {name!r}: give a string.")
    if isinstance(trial, Trial):
        _set_user_attrs(trial, stored.text_attributes({name: given}, attributes))
    return given


def _store_initial(trial: Trial, parameter: TextParameter) -> None:
    assert parameter.initial is not None
    texts = {parameter.name: parameter.initial}
    attributes = trial.user_attrs
    _set_user_attrs(trial, stored.text_attributes(texts, attributes))
    if stored.read_source(attributes) in (None, "base"):
        _set_user_attrs(trial, stored.source_attributes("initial"))


def _set_user_attrs(trial: Trial, attributes: dict[str, object]) -> None:
    for key, value in attributes.items():
        trial.set_user_attr(key, value)
