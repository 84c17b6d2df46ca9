"""The results of a running trial's cases, written now and then, and the pruner that reads them."""

from __future__ import annotations

from collections.abc import Mapping
import math
import time
from typing import Any

from optuna.pruners import HyperbandPruner
from optuna.pruners import PatientPruner
from optuna.pruners import PercentilePruner
from optuna.pruners import SuccessiveHalvingPruner
from optuna.trial import FrozenTrial
from optuna.trial import Trial

from optuna_llm._records import CaseResult
from optuna_llm._study import internals
from optuna_llm._study.cases import case_attributes
from optuna_llm._study.cases import read_cases
from optuna_llm._study.cases import StoredCases
from optuna_llm.evaluate._case_runner import CaseRun
from optuna_llm.evaluate._case_runner import CaseRunner
from optuna_llm.evaluate._case_runner import estimate_noise


_STEPWISE = (PercentilePruner, SuccessiveHalvingPruner, HyperbandPruner, PatientPruner)
"""Pruners that take intermediate values for a learning curve, which cases are not."""

_FIRST_ASKED = 14
"""Number of scores at which a pruner is first asked, where there are many cases: of fewer that
have ties, SciPy's Wilcoxon test counts all permutations, which takes longer than many cases do."""

_ASKED_SHARE = 25
"""It is asked again when there is one score more for each so many."""

_WRITING_SHARE = 10
"""Scores are written so seldom that it takes up to one part in so many of the time."""


class CaseRecord:
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
        self._pruner = CasePruner(trial, len(runner.cases))
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


class CasePruner:
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
