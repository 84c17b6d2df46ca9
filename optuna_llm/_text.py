"""Text parameters and feedback: what an objective calls."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
from contextvars import ContextVar
from dataclasses import replace
import functools
import math
from pathlib import Path
import re
import traceback
from typing import Any
from typing import TypeVar
from weakref import WeakKeyDictionary

from optuna import TrialPruned
from optuna.trial import BaseTrial
from optuna.trial import FixedTrial
from optuna.trial import FrozenTrial
from optuna.trial import Trial

from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelSetupError
from optuna_llm._images import check_images
from optuna_llm._quoting import shorten
from optuna_llm._records import CaseResult
from optuna_llm._records import Source
from optuna_llm._records import TextParameter
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.artifacts import upload_images
from optuna_llm._study.cases import check_case
from optuna_llm._study.cases import name_cases
from optuna_llm._study.cases import store_case
from optuna_llm._study.declarations import declare_text


_Result = TypeVar("_Result")

RUNNING: ContextVar[Trial | None] = ContextVar("RUNNING", default=None)
"""The trial whose objective runs in this context, where ``optimize.run`` keeps it from view."""

_EXPLAINS = "explains_failures"
"""Marks an objective that is wrapped already, also through further wrappers."""

_PACKAGE = str(Path(__file__).parent)

_FRAME = re.compile(r'^(\s*(?:\| +)?File )"([^"\n]+)"', re.MULTILINE)

_asked: WeakKeyDictionary[Trial, dict[str, str | None]] = WeakKeyDictionary()
"""The initial texts that trials were asked with, by name."""


def suggest_text(
    trial: BaseTrial,
    name: str,
    initial: str | None,
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
        initial: The text of trial 0; None has the model write that too, from the task and the
            description.
        description: What the text is for and what it must keep to, told to the model.
        language: Its language (``"python"``), for the model and for display; None for prose.

    Raises:
        ValueError: If the name is taken or invalid, ``initial`` is not a string or differs from
            what this trial gave before, a trial that is not running holds no text of this name,
            or there is neither an initial text nor a model that could write one.
        LLMError: If the model gave no text.
    """
    stored.check_text_name(name)
    if initial is not None and not isinstance(initial, str):
        raise ValueError(f"The initial text of {name!r} must be a string or None: {initial!r}.")
    if name in trial.distributions:
        raise ValueError(f"{name!r} is a number parameter of this trial: name the text otherwise.")
    if isinstance(trial, Trial):
        if _asked.setdefault(trial, {}).setdefault(name, initial) != initial:
            raise ValueError(
                f"This trial has asked for the text {name!r} before, with another initial text: "
                "give one of the two another name."
            )
        # Declared first, so that other workers and the prompt know of a text that was enqueued.
        parameter = TextParameter(name, description, language, initial, initial is not None)
        declare_text(trial.study, parameter)
    text = _find_text(trial, name)
    if text is not None:
        return text
    if not isinstance(trial, Trial):
        raise ValueError(
            f"This {type(trial).__name__} holds no text {name!r}: set it as a user attribute."
        )
    # A number parameter would make Optuna ask the sampler; this property does it for a text.
    text = stored.unpack_text(trial.relative_params, name)
    if text is None and initial is None:
        raise ValueError(
            f"The text {name!r} has no initial value, and no model has written one: give an "
            "initial text, or use an LLMSampler, which asks a model for it."
        )
    source: Source | None = None
    if text is None:
        assert initial is not None
        text, source = initial, "initial"
    _store_text(trial, name, stored.split_text(name, text), source)
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
    if not isinstance(feedback, str):
        raise TypeError(f"Feedback must be a string: {feedback!r}.")
    trial.set_user_attr(stored.FEEDBACK, stored.fit_attribute(feedback))
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
    check_case(case, score, feedback)
    if isinstance(trial, Trial):
        if name is not None:
            name_cases(trial.study, {case: name})
        store_case(trial, case, CaseResult(float(score), feedback))


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
        _store_text(trial, name, pieces or stored.split_text(name, given), "user")
    return given


def _store_text(trial: Trial, name: str, pieces: Mapping[str, str], source: Source | None) -> None:
    """Store the pieces of a text, after what the sampler has not told of it.

    Args:
        trial: The trial.
        name: The text's name.
        pieces: Its pieces by key, in the order in which they are written.
        source: Who has decided the text, if that says more than who has decided the numbers.
    """
    known = stored.read_provenance(trial)
    is_more = source is not None and known.source in (None, "base")
    told = replace(
        known,
        source=source if is_more else known.source,
        texts={**known.texts, name: len(pieces)},
    )
    attributes = {} if told == known else stored.provenance_attributes(told)
    held = trial.user_attrs
    for key, value in {**attributes, **pieces}.items():
        if held.get(key) != value:
            trial.set_user_attr(key, value)


def _store_images(trial: Trial, images: Sequence[object]) -> None:
    sampler = internals.find_sampler(trial)
    if not hasattr(sampler, "artifact_store"):
        return  # An objective runs unchanged under any other sampler.
    checked = check_images(images)
    if checked and sampler.artifact_store is None:
        raise ValueError(
            "There is nowhere to keep images: give the sampler an artifact store, such as "
            "LLMSampler(artifact_store=optuna.artifacts.FileSystemArtifactStore(folder))."
        )
    ids = upload_images(trial, checked, sampler.artifact_store)
    trial.set_user_attr(stored.IMAGES, ids)
