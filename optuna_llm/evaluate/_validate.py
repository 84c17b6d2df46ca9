"""Scoring the best trials on cases that were held out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import copy
import functools
import math
from typing import TypeVar

from optuna import Study
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._records import TrialRecord
from optuna_llm._study.case_table import find_case_sign
from optuna_llm._study.history import make_record
from optuna_llm._study.ranking import find_front
from optuna_llm._study.ranking import rank
from optuna_llm._study.ranking import spread
from optuna_llm._study.validation import compare
from optuna_llm._study.validation import Validation
from optuna_llm._study.validation import write_validation
from optuna_llm.evaluate._case_runner import CaseRunner
from optuna_llm.evaluate._cases import check_runner
from optuna_llm.evaluate._cases import number_apart
from optuna_llm.evaluate._cases import run_all
from optuna_llm.evaluate._cases import Score
from optuna_llm.evaluate._cases import show_progress


_Case = TypeVar("_Case")


def validate(
    study: Study,
    cases: Iterable[_Case] | Mapping[str, _Case],
    evaluate: Callable[[FrozenTrial, _Case], Score],
    *,
    top: int = 5,
    max_workers: int = 1,
    timeout: float | None = None,
    repeats: int = 1,
    failed_score: float | None = None,
    show_progress_bar: bool = False,
) -> Validation:
    """Score the best trials on cases that no trial has seen, and say which one to trust.

    The best of many trials has had luck with its cases. What it reaches in others is what counts,
    and another trial may reach more.

    .. code-block:: python

        def score(prompt, question):
            return grade(ask(prompt, question), question)

        def objective(trial):
            prompt = suggest_text(trial, "prompt", "Answer briefly.")
            return evaluate_cases(trial, QUESTIONS, lambda q: score(prompt, q))

        study.optimize(objective, n_trials=40)
        print(validate(study, HELD_OUT, lambda t, q: score(get_texts(t)["prompt"], q)))

    The result is stored with the study, in place of an earlier one, and shown by the dashboard's
    note. The model is not told, so that the cases stay held out.

    Args:
        study: The study.
        cases: The held-out cases, or a mapping from a name to each.
        evaluate: Takes a finished trial and a case; returns a score in the direction of the
            objective, or a score and words. ``suggest_text`` and Optuna's ``suggest_*`` give the
            trial's values.
        top: How many trials to score: the best ones, or of several objectives as many of the
            Pareto front.
        max_workers: How many cases are evaluated at a time.
        timeout: Seconds that the evaluation of a case may take.
        repeats: How often each case is evaluated, for the mean.
        failed_score: The score of a case that raises or takes too long. By default, its exception
            is raised.
        show_progress_bar: Whether to show a progress bar.

    Raises:
        TypeError: If an argument has another type, or ``evaluate`` returns something else.
        ValueError: If an argument is out of range, there are no cases, or no trial is complete.
    """
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise ValueError(f"top must be an int of 1 or more: {top!r}.")
    numbered = number_apart(cases)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not trials:
        raise ValueError("No trial of the study is complete: there is nothing to validate.")
    records = _choose([make_record(trial) for trial in trials], study, top)
    sign = find_case_sign(next((r for r in records if r.cases), None), study.directions)
    by_number = {trial.number: trial for trial in trials}
    scores = []
    with show_progress(show_progress_bar, len(records) * len(numbered)) as advance:
        for record in records:
            # A copy, since evaluate is the user's.
            frozen = copy.deepcopy(by_number[record.number])
            runner = CaseRunner(
                cases=numbered,
                evaluate=functools.partial(evaluate, frozen),
                higher_is_better=sign > 0,
                max_workers=max_workers,
                timeout=timeout,
                repeats=repeats,
                failed_score=failed_score,
            )
            runs = run_all(check_runner(runner), advance)
            scores.append([runs[case] for case in numbered])
    named = [(record.number, _find_training(record)) for record in records]
    validation = compare(named, scores, sign)
    write_validation(study, validation)
    return validation


def _choose(records: Sequence[TrialRecord], study: Study, top: int) -> list[TrialRecord]:
    """The best trials, best first; of several objectives by the mean over their cases."""
    directions = study.directions
    feasible = [r for r in records if not r.violation] or list(records)
    if len(directions) == 1:
        return sorted(feasible, key=lambda record: rank(record, directions))[:top]
    sign = find_case_sign(next((r for r in feasible if r.cases), None), directions)
    front = sorted(
        find_front(feasible, directions), key=lambda r: (-sign * _find_training(r), r.number)
    )
    return spread(front, top) if top > 1 else front[:1]


def _find_training(record: TrialRecord) -> float:
    assert record.values is not None
    if len(record.values) == 1 or not record.cases:
        return record.values[0]
    return math.fsum(r.score for r in record.cases.values()) / len(record.cases)
