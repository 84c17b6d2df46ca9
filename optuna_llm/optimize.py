"""The one-call form: a function of a text, a text to start from, and a model to improve it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
import logging
import random
import re
import time
from typing import Literal
from typing import NoReturn
from typing import SupportsFloat
from typing import TypeAlias

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._failures import explain_failures
from optuna_llm._mistakes import refuse_unknown
from optuna_llm._prompt.templates import SYSTEM_TEMPLATE
from optuna_llm._prompt.templates import USER_TEMPLATE
from optuna_llm._records import TextParameter
from optuna_llm._sampler import LLMSampler
from optuna_llm._study import internals
from optuna_llm._study.facts import describe_study
from optuna_llm._text import get_texts
from optuna_llm._text import report_feedback
from optuna_llm._text import RUNNING
from optuna_llm._text import suggest_text
from optuna_llm.callbacks import ConsoleCallback
from optuna_llm.callbacks import TargetValueCallback
from optuna_llm.models import ModelsLike


Scorer: TypeAlias = Callable[[str], "float | tuple[float, str]"]

_X = "x"
_MAX_OPENINGS = 10
_RACE = re.compile("already exists|UNIQUE constraint failed|[Dd]uplicate|database is locked")


@dataclass(frozen=True)
class Result:
    """What a run came to. Unpacks as ``best_score, scores, best_x``.

    Attributes:
        best_score: The best score; None if every evaluation failed.
        scores: The scores of the evaluations that did not fail, in their order.
        best_x: The text that scored best; None if every evaluation failed.
        study: The study, with everything else that is known.
    """

    best_score: float | None
    scores: list[float]
    best_x: str | None
    study: optuna.Study

    def __iter__(self) -> Iterator[object]:
        return iter((self.best_score, self.scores, self.best_x))


def run(
    task: str,
    question: str,
    func: Scorer,
    x0: str,
    *,
    max_steps: int = 10,
    stop_score: float | None = None,
    model: ModelsLike = None,
    verbose: bool = True,
    language: str | None = None,
    system_template: str = SYSTEM_TEMPLATE,
    user_template: str = USER_TEMPLATE,
    direction: Literal["minimize", "maximize"] = "maximize",
    storage: str | optuna.storages.BaseStorage | None = None,
    study_name: str | None = None,
    n_jobs: int = 1,
    show_progress_bar: bool = False,
    seed: int | None = None,
    **unknown: NoReturn,
) -> Result:
    """Improve a text by a model, a step at a time.

    .. code-block:: python

        def score(x):
            if x != x[::-1]:
                raise ValueError("Not a palindrome.")
            return len(set(x)), f"{len(set(x))} different letters"


        best_score, scores, best_x = run(
            "Find a palindrome of many different letters.",
            "A palindrome in lower case, without spaces.",
            score,
            "abba",
            model="offline",
        )

    It is a study of the one text parameter ``x`` under an :class:`LLMSampler`, and no more: with
    a storage and a name it can be opened, watched and continued, by this function too.

    Args:
        task: What it is about.
        question: What a text must be like; told to the model as the description of ``x``.
        func: Gives a text's score, or the score and words about it that the model reads. An
            exception is a failed trial whose traceback the model reads, never a score.
        x0: The text to start from; evaluated first, unless the study has begun already.
        max_steps: How many texts the model proposes, beside ``x0``.
        stop_score: The score at which it ends.
        model: As for :class:`LLMSampler`.
        verbose: Whether each step is shown on the console.
        language: Language of the text, such as "python".
        system_template: As for :class:`LLMSampler`.
        user_template: As for :class:`LLMSampler`.
        direction: "maximize" or "minimize".
        storage: As for :func:`optuna.create_study`.
        study_name: Likewise; a study of this name is continued.
        n_jobs: As for :meth:`optuna.study.Study.optimize`.
        show_progress_bar: Likewise.
        seed: As for :class:`LLMSampler`.
        **unknown: Refused with a hint at what to write instead.

    Raises:
        ModelSetupError: If the model's server refuses for good, such as for a wrong key, or has
            never answered.
        TypeError: If ``func`` returns neither a number nor a number and a string.
        ValueError: If an argument cannot be right.
    """
    refuse_unknown(run, unknown)
    if not callable(func):
        raise TypeError(f"func must be a function of a text: {func!r}.")
    if not isinstance(x0, str):
        raise TypeError(f"x0 must be a string: {x0!r}.")
    if max_steps < 0:
        raise ValueError(f"max_steps must be 0 or more: {max_steps!r}.")
    sampler = LLMSampler(
        task,
        model=model,
        seed=seed,
        system_template=system_template,
        user_template=user_template,
    )
    study = optuna.create_study(
        storage=_open_storage(storage),
        study_name=study_name,
        direction=direction,
        sampler=sampler,
        load_if_exists=True,
    )
    n_trials = max_steps + (not study.get_trials(deepcopy=False))
    describe_study(
        study,
        n_trials=len(study.get_trials(deepcopy=False)) + n_trials or None,
        target_value=stop_score,
    )
    objective = _make_objective(func, TextParameter(_X, question, language, x0))
    callbacks: list[Callable[[optuna.Study, FrozenTrial], None]] = []
    if verbose:
        callbacks.append(ConsoleCallback())
    if stop_score is not None:
        callbacks.append(TargetValueCallback(stop_score))
    # Failed trials are part of a search; end_optimize raises what no further trial can mend.
    with _hide_trial_lines() if verbose else contextlib.nullcontext():
        study.optimize(
            objective,
            n_trials,
            n_jobs=n_jobs,
            catch=Exception,
            callbacks=callbacks,
            show_progress_bar=show_progress_bar,
        )
    return _summarize(study)


def _make_objective(func: Scorer, x: TextParameter) -> Callable[[optuna.Trial], float]:
    """The function as an objective."""
    assert x.initial is not None
    initial = x.initial

    @explain_failures
    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, x.name, initial, description=x.description, language=x.language)
        before = RUNNING.set(trial)
        try:
            answer = func(text)
        finally:
            RUNNING.reset(before)
        try:
            score, words = _read_answer(answer)
        except TypeError as error:
            internals.end_optimize(trial.study, error)
            raise
        if words:
            report_feedback(trial, words)
        return score

    return objective


def _open_storage(
    storage: str | optuna.storages.BaseStorage | None,
) -> optuna.storages.BaseStorage:
    """The storage, which several processes may create at the same time.

    Optuna creates the tables of a new database without a lock: of processes that start together,
    all but one may fail, and find the tables the next time.
    """
    for _ in range(_MAX_OPENINGS):
        try:
            return optuna.storages.get_storage(storage)
        except Exception as error:
            if not isinstance(storage, str) or not _RACE.search(str(error)):
                raise
            time.sleep(random.uniform(0.05, 0.5))
    return optuna.storages.get_storage(storage)


@contextlib.contextmanager
def _hide_trial_lines() -> Iterator[None]:
    """Hide Optuna's own line on each trial, which the console shows in other words.

    Nothing else is hidden: retries, and warnings such as that there is no sandbox, stay visible.
    """
    logger = logging.getLogger("optuna.study")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _read_answer(answer: object) -> tuple[float, str]:
    """The score and the words of what a scorer returns.

    Raises:
        TypeError: If it is neither a number nor a number and a string.
    """
    score, words = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, "")
    if not isinstance(score, SupportsFloat) or not isinstance(words, str):
        raise TypeError(f"func must return a number, or a number and a string: {answer!r}.")
    return float(score), words


def _summarize(study: optuna.Study) -> Result:
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    scores = [trial.value for trial in complete if trial.value is not None]
    if not scores:
        return Result(None, [], None, study)
    best = study.best_trial
    return Result(best.value, scores, get_texts(best).get(_X), study)
