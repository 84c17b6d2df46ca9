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
import time
from typing import Any
from typing import TypeAlias
from typing import TypeVar
from weakref import WeakSet

from optuna import TrialPruned
from optuna.pruners import HyperbandPruner
from optuna.pruners import PatientPruner
from optuna.pruners import PercentilePruner
from optuna.pruners import SuccessiveHalvingPruner
from optuna.study import StudyDirection
from optuna.trial import BaseTrial
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState

from optuna_llm._quoting import one_line
from optuna_llm._records import CaseResult
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.cases import case_attributes
from optuna_llm._study.cases import check_count
from optuna_llm._study.cases import name_cases
from optuna_llm._study.cases import number_cases
from optuna_llm._study.cases import read_case_names
from optuna_llm._study.cases import read_cases
from optuna_llm._study.cases import StoredCases
from optuna_llm._text import add_feedback
from optuna_llm.evaluate._case_runner import CaseRun
from optuna_llm.evaluate._case_runner import CaseRunner
from optuna_llm.evaluate._case_runner import estimate_noise


_Case = TypeVar("_Case")

Score: TypeAlias = "float | tuple[float, str]"
"""The score of a case, or its score and words on it."""

_STEPWISE = (PercentilePruner, SuccessiveHalvingPruner, HyperbandPruner, PatientPruner)
"""Pruners that take intermediate values for a learning curve, which cases are not."""

_FIRST_ASKED = 14
"""Number of scores at which a pruner is first asked, where there are many cases: of fewer that
have ties, SciPy's Wilcoxon test counts all permutations, which takes longer than many cases do."""

_ASKED_SHARE = 25
"""It is asked again when there is one score more for each so many."""

_WRITING_SHARE = 10
"""Scores are written so seldom that it takes up to one part in so many of the time."""

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
        shuffle: Whether each trial draws its own order (by its number, so that a rerun draws the
            same), half of it led by the cases that its parent is weakest in.
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
    named = _number(trial, cases)
    direction = _find_direction(trial)
    runner = CaseRunner(
        cases=named,
        evaluate=evaluate,
        higher_is_better=direction != StudyDirection.MINIMIZE,
        max_workers=_check_positive("max_workers", max_workers),
        timeout=_check_timeout(timeout),
        repeats=_check_positive("repeats", repeats),
        failed_score=_check_score(failed_score),
    )
    if not isinstance(trial, Trial):
        with _show_progress(show_progress_bar, len(named)) as advance:
            runs = [advance(_take(None, run)) for run in runner.run(list(named))]
        return math.fsum(run.score or 0.0 for run in runs) / len(runs)
    return _evaluate_running(trial, runner, shuffle, show_progress_bar)


def _evaluate_running(trial: Trial, runner: CaseRunner, shuffle: bool, shows: bool) -> float:
    if trial in _begun:
        raise ValueError(
            "evaluate_cases was called before in this trial: call it once, with all cases."
        )
    _begun.add(trial)
    record = _CaseRecord(trial, runner)
    order = [case for case in runner.cases if case not in record.results]
    if shuffle:
        order = _draw_order(trial, order)
    with _show_progress(shows, len(runner.cases)) as advance:
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


class _CaseRecord:
    """The results of a running trial, written now and then.

    Args:
        trial: The trial.
        runner: What runs its cases.
    """

    def __init__(self, trial: Trial, runner: CaseRunner) -> None:
        self._trial = trial
        self._runner = runner
        self._is_one = len(trial.study.directions) == 1
        self._frozen = internals.read_live_trial(trial)
        known = read_cases(self._frozen)
        self.results: dict[int, CaseResult] = {
            case: result for case, result in known.results.items() if case in runner.cases
        }
        self._variances: list[float] = []
        self._unwritten: dict[int, float] = {}
        self._pruner = _CasePruner(trial, len(runner.cases))
        self._write_attribute()
        self._cost = 0.0
        self._wrote = -math.inf

    @property
    def mean(self) -> float:
        """The mean score of the results so far."""
        return math.fsum(r.score for r in self.results.values()) / len(self.results)

    def add(self, run: CaseRun) -> None:
        """Take in a result; write what has come together if that is due."""
        assert run.score is not None
        self.results[run.case] = CaseResult(run.score, run.words)
        self._unwritten[run.case] = run.score
        if run.variance is not None:
            self._variances.append(run.variance)
        if time.monotonic() - self._wrote >= _WRITING_SHARE * self._cost:
            self.write()

    def is_to_prune(self) -> bool:
        """Whether the pruner says that the trial is to end."""
        scores = {case: result.score for case, result in self.results.items()}
        return self._pruner.ask(scores)

    def write(self) -> None:
        """Store all results so far."""
        began = time.monotonic()
        if self._unwritten and self._is_one:
            internals.report_values(self._trial, self._unwritten)
        if self._unwritten:
            self._write_attribute()
        self._unwritten = {}
        self._wrote = time.monotonic()
        self._cost = self._wrote - began

    def _write_attribute(self) -> None:
        """Store what is said of the cases; before their scores, it marks those as such."""
        noise = estimate_noise(self._variances, self._runner.repeats, len(self.results))
        known = StoredCases(self.results, len(self._runner.cases), noise)
        for key, value in case_attributes(known, with_scores=not self._is_one).items():
            if self._frozen.user_attrs.get(key) != value:
                self._trial.set_user_attr(key, value)


class _CasePruner:
    """Asks the study's pruner, with scores that need not have been written.

    The best trial is read once: each read takes longer than many cases do.
    """

    def __init__(self, trial: Trial, n_cases: int) -> None:
        self._pruner = trial.study.pruner
        self._first = min(_FIRST_ASKED, n_cases // 4)
        self._trial = trial
        is_one = len(trial.study.directions) == 1
        self._is_asked = is_one and not isinstance(self._pruner, _STEPWISE)
        self._study: Any = _WithBestTrial(trial.study)

    def ask(self, scores: Mapping[int, float]) -> bool:
        """Whether a trial with these scores is to end; asked less often as they become many."""
        count = len(scores)
        is_due = count >= self._first and not count % max(1, count // _ASKED_SHARE)
        if not self._is_asked or not is_due:
            return False
        frozen = internals.copy_with_values(self._trial, scores)
        return self._pruner.prune(self._study, frozen)


class _WithBestTrial:
    """A study as a pruner sees it, its best trial read once."""

    def __init__(self, study: Any) -> None:
        self._study = study
        self._best: FrozenTrial | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @property
    def best_trial(self) -> FrozenTrial:
        if self._best is None:
            self._best = self._study.best_trial
        return self._best


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
    """A random order, drawn by the trial's number: in turn any case and one of the weakest."""
    rng = random.Random(trial.number)
    drawn = list(cases)
    rng.shuffle(drawn)
    scores = _read_parent(trial)
    if not scores:
        return drawn
    sign = 1 if trial.study.direction == StudyDirection.MAXIMIZE else -1
    weakest = sorted(
        (case for case in drawn if case in scores), key=lambda case: sign * scores[case]
    )
    mixed = (case for pair in zip(drawn, [*weakest, *drawn], strict=False) for case in pair)
    return list(dict.fromkeys(mixed))


def _read_parent(trial: Trial) -> dict[int, float]:
    """The case scores of the trial's parent, or of the best trial; empty without either."""
    if len(trial.study.directions) > 1:
        return {}
    trials = internals.read_trials(trial.study)
    parent = stored.read_provenance(trial).parent
    if parent is None or parent >= len(trials):
        sign = -1 if trial.study.direction == StudyDirection.MAXIMIZE else 1
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        best = min(complete, key=lambda t: (sign * (t.value or 0.0), t.number), default=None)
    else:
        best = trials[parent]
    if best is None:
        return {}
    return {case: result.score for case, result in read_cases(best).results.items()}


def _number(trial: BaseTrial, cases: Iterable[_Case] | Mapping[str, _Case]) -> dict[int, _Case]:
    """The cases by number; names are stored with the study.

    Raises:
        TypeError: If they are a string, or names are none.
        ValueError: If there are none, or too many.
    """
    if isinstance(cases, str | bytes):
        raise TypeError(f"cases must be a sequence or a mapping: {cases!r:.100}.")
    study = trial.study if isinstance(trial, Trial) else None
    if not isinstance(cases, Mapping):
        numbered = dict(enumerate(cases))
    elif not all(isinstance(name, str) and name.strip() for name in cases):
        raise TypeError("The names of cases must be non-empty strings: {name: case}.")
    else:
        held = read_case_names(study.user_attrs) if study is not None else {}
        numbers = number_cases(list(cases), held)
        if study is not None:
            name_cases(study, dict(zip(numbers, cases, strict=True)))
        numbered = dict(zip(numbers, cases.values(), strict=True))
    check_count(len(numbered), keeps_scores=study is not None and len(study.directions) > 1)
    return numbered


def _find_direction(trial: BaseTrial) -> StudyDirection:
    return trial.study.directions[0] if isinstance(trial, Trial) else StudyDirection.MAXIMIZE


def _check_positive(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int: {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more: {value}.")
    return value


def _check_timeout(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"timeout must be a number of seconds above 0, or None: {value!r}.")
    return value


def _check_score(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise ValueError(f"failed_score must be a finite number, or None: {value!r}.")
    return value


_Item = TypeVar("_Item")


@contextlib.contextmanager
def _show_progress(shows: bool, total: int) -> Iterator[Callable[[_Item], _Item]]:
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
