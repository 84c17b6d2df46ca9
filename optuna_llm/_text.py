"""Text parameters and feedback: what an objective calls."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from optuna.trial import BaseTrial
from optuna.trial import FixedTrial
from optuna.trial import FrozenTrial
from optuna.trial import Trial

from optuna_llm._images import check_images
from optuna_llm._records import CaseResult
from optuna_llm._records import Source
from optuna_llm._records import TextParameter
from optuna_llm._settling import check_tunables
from optuna_llm._settling import find_initial_family
from optuna_llm._settling import settle_tunables
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.artifacts import upload_images
from optuna_llm._study.cases import check_case
from optuna_llm._study.cases import name_cases
from optuna_llm._study.cases import store_case
from optuna_llm._study.declarations import declare_text
from optuna_llm._study.running import asks_models
from optuna_llm._study.running import store_text
from optuna_llm._study.running import unpack_text
from optuna_llm._study.sizes import fit_attribute


RUNNING: ContextVar[Trial | None] = ContextVar("RUNNING", default=None)
"""The trial whose objective runs in this context, where ``optimize.run`` keeps it from view."""

_asked: WeakKeyDictionary[Trial, dict[str, str | None]] = WeakKeyDictionary()
"""The initial texts that trials were asked with, by name."""


def suggest_text(
    trial: BaseTrial,
    name: str,
    initial: str | None,
    *,
    description: str = "",
    language: str | None = None,
    tunable: bool = False,
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
        initial: The text of trial 0; None has the model write that too, from the task and the
            description.
        description: What the text is for and what it must keep to, told to the model.
        language: Its language (``"python"``), for the model and for display; None for prose.
        tunable: Whether numbers in it may be marked as tunable, in the initial text and by the
            model: ``<<margin = 0.35 in 0.05..2 log>>``, ``<<n = 4 in 1..16>>`` for integers and
            ``<<f = max in max, sum>>`` for choices. The objective gets the text with values in
            their place. Each is a parameter of the trial, ``code.margin@12`` if trial 12 has
            introduced it; further values are tried between the model's proposals, at no cost of
            a model. Under another sampler, that decides them.

    Raises:
        ValueError: If the name is taken or invalid, ``initial`` is not a string or differs from
            what this trial gave before, a trial that is not running holds no text of this name,
            a tunable in it is malformed, or there is neither an initial text nor a model that
            could write one.
        LLMError: If the model gave no text.
    """
    trial = internals.unwrap_trial(trial)
    _check_asked(trial, name, initial, tunable=tunable)
    if isinstance(trial, Trial):
        if _asked.setdefault(trial, {}).setdefault(name, initial) != initial:
            raise ValueError(
                f"This trial has asked for the text {name!r} before, with another initial text: "
                "give one of the two another name."
            )
        # Declared first, so that other workers and the prompt know of a text that was enqueued.
        has_initial = initial is not None
        parameter = TextParameter(name, description, language, initial, has_initial, tunable)
        declare_text(trial.study, parameter)
    text = _find_text(trial, name)
    if text is not None:
        return settle_tunables(trial, name, text) if tunable else text
    if not isinstance(trial, Trial):
        raise ValueError(
            f"This {type(trial).__name__} holds no text {name!r}: set it as a user attribute."
        )
    # A number parameter would make Optuna ask the sampler; this property does it for a text.
    text, family = unpack_text(trial.relative_params, name)
    if text is None and initial is None:
        raise ValueError(
            f"The text {name!r} has no initial value, and no model has written one: give an "
            "initial text, or use an LLMSampler, which asks a model for it."
        )
    source: Source | None = None
    if text is None:
        assert initial is not None
        text, source = initial, "initial"
        family = find_initial_family(trial, name, initial) if tunable else None
    if tunable:
        return settle_tunables(trial, name, text, source, family)
    store_text(trial, name, stored.split_text(name, text), source)
    return text


def get_texts(trial: Trial | FrozenTrial | FixedTrial) -> dict[str, str]:
    """Every text of a trial, name to text. A long text, stored in pieces, is whole here."""
    return stored.read_texts(trial)


def report_feedback(
    trial: BaseTrial, feedback: str, *, images: Sequence[object] | None = None
) -> None:
    """Tell the model of this trial in words and images; a later call replaces an earlier one's.

    .. code-block:: python

        report_feedback(trial, "The curve is jagged.", images=[figure])

    Images are kept in the sampler's artifact store, where optuna-dashboard finds them too, and
    shown to a model that takes images: those of the trial to start from and of the best, four at
    most. Under any other sampler than an :class:`LLMSampler` they are left alone.

    Args:
        trial: The running trial.
        feedback: What the evaluation found: scores by class, a traceback, a judge's words. Of
            more than 1,500 characters, the model is shown the beginning and the end.
        images: At most four images of 5 MB each, as PNG, JPEG, WebP or GIF: bytes, a path, a PIL
            image or a matplotlib figure. None leaves those that an earlier call has given.

    Raises:
        TypeError: If ``feedback`` is no string, or an image is something else.
        ValueError: If there are too many images, one is too large or of another format, or the
            sampler has no artifact store to keep them.
        OSError: If an image's file cannot be read.
    """
    trial = internals.unwrap_trial(trial)
    if not isinstance(feedback, str):
        raise TypeError(f"Feedback must be a string: {feedback!r}.")
    trial.set_user_attr(stored.FEEDBACK, fit_attribute(feedback))
    if images is not None and isinstance(trial, Trial):
        _store_images(trial, images)


def report_case(
    trial: BaseTrial, case: int, score: float, feedback: str = "", *, name: str | None = None
) -> None:
    """Report one case of a trial whose objective is a mean over cases: questions, folds, tests.

    The model is told in which cases a trial gained and lost, and what was said of the worst. The
    score is an intermediate value of the trial, with the case as its step, as
    :class:`~optuna.pruners.WilcoxonPruner` wants it. A case that was reported before keeps its
    score.

    .. code-block:: python

        for case, question in enumerate(QUESTIONS):
            answer = ask(prompt, question)
            report_case(trial, case, answer == EXPECTED[case], f"answered {answer}")

    :func:`~optuna_llm.evaluate.evaluate_cases` does so for all cases, and writes less often.

    Args:
        trial: The running trial; nothing is reported of a trial of another kind.
        case: The case's number, from 0, the same in all trials.
        score: Its score, in the direction of the objective.
        feedback: What was found in it; up to 1,000 characters are kept, and less where there are
            many.
        name: What the case is called, for the model and the dashboard.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If the case or its score is out of range, or a study of several objectives has
            too many cases.
    """
    trial = internals.unwrap_trial(trial)
    check_case(case, score, feedback)
    if isinstance(trial, Trial):
        if name is not None:
            name_cases(trial.study, {case: name})
        store_case(trial, case, CaseResult(float(score), feedback))


def _check_asked(trial: BaseTrial, name: str, initial: str | None, *, tunable: bool) -> None:
    """Refuse what cannot be asked for.

    Raises:
        ValueError: If the name or the initial text is none.
    """
    stored.check_text_name(name)
    if initial is not None and not isinstance(initial, str):
        raise ValueError(f"The initial text of {name!r} must be a string or None: {initial!r}.")
    if tunable and initial is not None:
        check_tunables(name, initial)
    if name in trial.distributions:
        raise ValueError(f"{name!r} is a number parameter of this trial: name the text otherwise.")


def _find_text(trial: BaseTrial, name: str) -> str | None:
    """The text that the trial has already; None where it has none."""
    texts = stored.read_texts(trial)
    if name in texts:
        return texts[name]
    pieces = stored.read_given_pieces(trial, name)
    given: Any = "".join(pieces.values())
    if not pieces:
        given = internals.read_given_params(trial).get(name)
    if given is None:
        return None
    if not isinstance(given, str):
        raise ValueError(f"The trial was given {given!r} for the text {name!r}: give a string.")
    if isinstance(trial, Trial):
        store_text(trial, name, pieces or stored.split_text(name, given), "user")
    return given


def _store_images(trial: Trial, images: Sequence[object]) -> None:
    if not asks_models(trial):
        return  # An objective runs unchanged under any other sampler.
    sampler: Any = internals.find_sampler(trial)
    checked = check_images(images)
    if checked and sampler.artifact_store is None:
        raise ValueError(
            "There is nowhere to keep images: give the sampler an artifact store, such as "
            "LLMSampler(artifact_store=optuna.artifacts.FileSystemArtifactStore(folder))."
        )
    ids = upload_images(trial, checked, sampler.artifact_store)
    trial.set_user_attr(stored.IMAGES, ids)
