"""An objective that is a mean over cases."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import math
import random
from typing import TypeAlias
from typing import TypeVar
from weakref import WeakSet

from optuna import TrialPruned
from optuna.study import StudyDirection
from optuna.trial import BaseTrial
from optuna.trial import Trial
from optuna.trial import TrialState

from optuna_llm._failures import add_feedback
from optuna_llm._quoting import one_line
from optuna_llm._study import internals
from optuna_llm._study.cases import check_count
from optuna_llm._study.cases import name_cases
from optuna_llm._study.cases import number_cases
from optuna_llm._study.cases import read_case_names
from optuna_llm._study.cases import read_cases
from optuna_llm.evaluate._case_record import CaseRecord
from optuna_llm.evaluate._case_runner import CaseRun
from optuna_llm.evaluate._case_runner import CaseRunner


_Case = TypeVar("_Case")

Score: TypeAlias = "float | tuple[float, str]"
"""The score of a case, or its score and words on it."""

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2

_begun: WeakSet[Trial] = WeakSet()
"""The trials whose cases this process evaluates or has evaluated."""


def evaluate_cases(
    trial: BaseTrial,
    cases: Iterable[_Case] | Mapping[str, _Case],
    evaluate: Callable[[_Case], Score],
    *,
    max_workers: int = 1,
    shuffle: bool = True,
    timeout: float | None = None,
    repeats: int = 1,
    failed_score: float | None = None,
    show_progress_bar: bool = False,
) -> float:
    """The mean score over cases, each of which the model and the pruner learn of.

    .. code-block:: python

        def objective(trial):
            prompt = suggest_text(trial, "prompt", "Answer briefly.")
            return evaluate_cases(trial, QUESTIONS, lambda q: grade(ask(prompt, q), q))

        study = create_study(direction="maximize", pruner=WilcoxonPruner(), sampler=sampler)

    A pruner that compares trials case by case, such as Optuna's
    :class:`~optuna.pruners.WilcoxonPruner`, is asked as scores come in. Pruners that read
    intermediate values as a learning curve (median, percentile, halving, Hyperband, patient) are
    not asked: cases have no order. A trial that has results already, since a worker died in it,
    is evaluated on the other cases only.

    :func:`validate` scores the best trials on other cases.

    Args:
        trial: The running trial. Of a trial of another kind, such as ``study.best_trial``, the
            mean is computed and nothing is reported.
        cases: The cases, in the same order in all trials, or a mapping from a name to each case.
            With names, the order may change and cases may be added.
        evaluate: Takes a case; returns its score, or its score and words that tell the model what
            went wrong. It is called from several threads if ``max_workers`` is above 1, and then
            must not call ``trial.suggest_*``.
        max_workers: How many cases are evaluated at a time.
        shuffle: Whether each trial draws its own order, by its number, so that a rerun draws the
            same. Cases in which the best trial is strong and weak come in turn, so that what
            a pruner sees of a trial is what it is on the whole.
        timeout: Seconds that the evaluation of a case may take; then it has failed. Its thread is
            left to itself, since Python cannot end one.
        repeats: How often each case is evaluated, for the mean. From 2 on, the trial's noise is
            estimated and told to the model.
        failed_score: The score of a case that raises or takes too long. By default, the exception
            of the case fails the trial. A model that cannot be reached (:class:`LLMError`) fails
            the trial in any case.
        show_progress_bar: Whether to show a progress bar, as ``study.optimize`` does.

    Raises:
        TypeError: If an argument has another type, or ``evaluate`` returns something else.
        ValueError: If an argument is out of range, there are no cases, or it is the second call
            in a trial.
        TrialPruned: If the pruner says so. Cases in flight are cancelled where they wait for a
            model of this package, else awaited.
    """
    # Of a trial that does not run, nobody reads which of a case's repeats was the worst.
    is_up = not isinstance(trial, Trial) or trial.study.directions[0] == StudyDirection.MAXIMIZE
    runner = check_runner(
        CaseRunner(
            cases=_number(trial, cases),
            evaluate=evaluate,
            higher_is_better=is_up,
            max_workers=max_workers,
            timeout=timeout,
            repeats=repeats,
            failed_score=failed_score,
        )
    )
    if isinstance(trial, Trial):
        return _evaluate_running(trial, runner, shuffle, show_progress_bar)
    with show_progress(show_progress_bar, len(runner.cases)) as advance:
        scores = run_all(runner, advance)
    return math.fsum(scores.values()) / len(scores)


def _evaluate_running(trial: Trial, runner: CaseRunner, shuffle: bool, shows: bool) -> float:
    if trial in _begun:
        raise ValueError(
            "evaluate_cases was called before in this trial: call it once, with all cases."
        )
    _begun.add(trial)
    record = CaseRecord(trial, runner)
    order = [case for case in runner.cases if case not in record.results]
    if shuffle:
        order = _draw_order(trial, order)
    with show_progress(shows, len(runner.cases)) as advance:
        for _ in record.results:
            advance(None)
        runs = runner.run(order)
        try:
            for run in runs:
                record.add(advance(_take(trial, run)))
                if record.is_to_prune():
                    count = len(record.results)
                    raise TrialPruned(f"Pruned after {count} of {len(runner.cases)} cases.")
        finally:
            if isinstance(runs, Iterator) and hasattr(runs, "close"):
                runs.close()
            record.write()
    return record.mean


def _take(trial: Trial | None, run: CaseRun) -> CaseRun:
    """The run, if it has a score; else its exception is raised, and the trial told why."""
    if run.error is None:
        return run
    if trial is not None and run.words:
        name = read_case_names(trial.study.user_attrs).get(run.case)
        which = f"Case {run.case}" + (f" ({name})" if name else "")
        add_feedback(trial, f"{which} {one_line(run.words[-500:], 500)}")
    raise run.error


def _draw_order(trial: Trial, cases: Sequence[int]) -> list[int]:
    """An order drawn by the trial's number, in which the best is as strong early as on the whole.

    Where the best trial is strong, another can only lose, and where it is weak only gain. And
    WilcoxonPruner prunes no trial whose mean so far exceeds that of the best over all cases.
    """
    rng = random.Random(trial.number)
    drawn = list(cases)
    rng.shuffle(drawn)
    scores = _read_best(trial)
    mean = math.fsum(scores.values()) / len(scores) if scores else 0.0
    ranked = sorted(drawn, key=lambda case: scores.get(case, mean))
    # Multiples of the golden ratio: any part of the order is spread evenly over the ranks.
    offset = rng.random()
    ranks = sorted(range(len(ranked)), key=lambda rank: (rank * _GOLDEN_RATIO + offset) % 1)
    return [ranked[rank] for rank in ranks]


def _read_best(trial: Trial) -> dict[int, float]:
    """The case scores of the best trial; empty without one, or of several objectives."""
    if len(trial.study.directions) > 1:
        return {}
    sign = -1 if trial.study.direction == StudyDirection.MAXIMIZE else 1
    complete = [t for t in internals.read_trials(trial.study) if t.state == TrialState.COMPLETE]
    best = min(complete, key=lambda t: (sign * t.values[0], t.number), default=None)
    if best is None:
        return {}
    return {case: result.score for case, result in read_cases(best).results.items()}


def run_all(runner: CaseRunner, advance: Callable[[CaseRun], CaseRun]) -> dict[int, float]:
    """The score of each case.

    Args:
        runner: What runs the cases.
        advance: Called with each result.
    """
    scores = {}
    for run in runner.run(list(runner.cases)):
        advance(_take(None, run))
        assert run.score is not None
        scores[run.case] = run.score
    return scores


def number_apart(cases: Iterable[_Case] | Mapping[str, _Case]) -> dict[int, _Case]:
    """Cases by number that are none of a study's.

    Raises:
        TypeError: If they are a string.
        ValueError: If there are none.
    """
    if isinstance(cases, str | bytes):
        raise TypeError(f"cases must be a sequence or a mapping: {cases!r:.100}.")
    numbered = dict(enumerate(cases.values() if isinstance(cases, Mapping) else cases))
    check_count(len(numbered), keeps_scores=False)
    return numbered


def _number(trial: BaseTrial, cases: Iterable[_Case] | Mapping[str, _Case]) -> dict[int, _Case]:
    """The cases by number; names are stored with the study.

    Raises:
        TypeError: If they are a string, or names are none.
        ValueError: If there are none, or too many.
    """
    if not isinstance(trial, Trial):
        return number_apart(cases)
    study = trial.study
    check_count(len(numbered := number_apart(cases)), keeps_scores=len(study.directions) > 1)
    if not isinstance(cases, Mapping):
        return numbered
    if not all(isinstance(name, str) and name.strip() for name in cases):
        raise TypeError("The names of cases must be non-empty strings: {name: case}.")
    numbers = number_cases(list(cases), read_case_names(study.user_attrs))
    name_cases(study, dict(zip(numbers, cases, strict=True)))
    return dict(zip(numbers, cases.values(), strict=True))


def check_runner(runner: CaseRunner) -> CaseRunner:
    """The runner, if what a user has set of it is in range.

    Raises:
        TypeError: If a number is of another type.
        ValueError: If it is out of range.
    """
    for name in ("max_workers", "repeats"):
        value = getattr(runner, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an int: {value!r}.")
        if value < 1:
            raise ValueError(f"{name} must be 1 or more: {value}.")
    timeout, score = runner.timeout, runner.failed_score
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"timeout must be a number of seconds above 0, or None: {timeout!r}.")
    if score is not None and not math.isfinite(score):
        raise ValueError(f"failed_score must be a finite number, or None: {score!r}.")
    return runner


_Item = TypeVar("_Item")


@contextlib.contextmanager
def show_progress(shows: bool, total: int) -> Iterator[Callable[[_Item], _Item]]:
    """Yields a function that counts what it is given, and hands it on."""
    if not shows:
        yield lambda item: item
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="Cases") as bar:

        def advance(item: _Item) -> _Item:
            bar.update()
            return item

        yield advance
