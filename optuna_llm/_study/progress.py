"""How a study has progressed: its trials in order of completion, and which were improvements."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import threading

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._records import TrialRecord
from optuna_llm._study.attributes import read_provenance
from optuna_llm._study.history import completion_order
from optuna_llm._study.history import make_record
from optuna_llm._study.history import name_objectives
from optuna_llm._study.internals import read_constraints
from optuna_llm._study.memory import StudyMemory
from optuna_llm._study.ranking import merge_leader
from optuna_llm._study.ranking import rank


@dataclass(frozen=True)
class Origin:
    """Who decided a trial's values, from which trials, and whether they are allowed.

    Attributes:
        source: Who decided them; None where nobody has said.
        proposer: The configured name of the model, or another proposer's.
        parent: Number of the trial that its texts were derived from.
        second_parent: Number of the trial that it was to take over from.
        is_feasible: Whether the trial violates no constraint.
    """

    source: str | None
    proposer: str | None
    parent: int | None
    second_parent: int | None
    is_feasible: bool


@dataclass(frozen=True)
class Progress:
    """The course of a study so far.

    Attributes:
        objectives: Name and direction of each objective.
        trials: All trials, by number.
        finished: The finished trials, in order of completion.
        improvements: The trials that were the best when they completed, in order of completion;
            with several objectives, those that no earlier trial dominated.
        best: The best trial, or the Pareto front. Infeasible trials only if none is feasible.
        space: The number parameters that finished trials have used, with the range used last.
        numbers: Names of the number parameters that any trial has used.
        origins: Where each trial comes from, by number.
    """

    objectives: Sequence[tuple[str, StudyDirection]]
    trials: Mapping[int, FrozenTrial]
    finished: Sequence[FrozenTrial]
    improvements: Sequence[TrialRecord]
    best: Sequence[TrialRecord]
    space: Mapping[str, BaseDistribution]
    numbers: frozenset[str]
    origins: Mapping[int, Origin]


def read_progress(study: Study) -> Progress:
    """The course of a study so far, from one read of its trials.

    What a process has read of finished trials, it does not read again.
    """
    trials = study.get_trials(deepcopy=False)
    return _courses.find(study, trials).read(trials, name_objectives(study))


class _Course:
    """What is known of one study's finished trials; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._n_seen = 0
        self._origins: dict[int, Origin] = {}
        self._finished: list[FrozenTrial] = []
        self._begin()

    def _begin(self) -> None:
        """Go through the finished trials from the first on."""
        self._n_passed = 0
        self._improvements: list[TrialRecord] = []
        self._best: list[TrialRecord] = []
        self._space: dict[str, BaseDistribution] = {}

    def read(
        self, trials: Sequence[FrozenTrial], objectives: Sequence[tuple[str, StudyDirection]]
    ) -> Progress:
        """The course of the study.

        Args:
            trials: All its trials, by number.
            objectives: Name and direction of each objective.
        """
        with self._lock:
            self._open.update(range(self._n_seen, len(trials)))
            self._n_seen = max(self._n_seen, len(trials))
            unfinished = {n: trials[n] for n in self._open if n < len(trials)}
            ended = [trial for trial in unfinished.values() if trial.state.is_finished()]
            self._open.difference_update(trial.number for trial in ended)
            self._add(sorted(ended, key=completion_order), [d for _, d in objectives])
            running = {n: t for n, t in unfinished.items() if not t.state.is_finished()}
            return Progress(
                objectives,
                trials={trial.number: trial for trial in trials},
                finished=list(self._finished),
                improvements=list(self._improvements),
                best=list(self._best),
                space=dict(self._space),
                numbers=frozenset(
                    [*self._space, *(n for t in running.values() for n in t.params)]
                ),
                origins=self._origins | {n: _read_origin(t) for n, t in running.items()},
            )

    def _add(self, ended: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> None:
        if not ended:
            return
        self._origins.update((trial.number, _read_origin(trial)) for trial in ended)
        last = self._finished[-1] if self._finished else None
        self._finished.extend(ended)
        if last is not None and completion_order(ended[0]) < completion_order(last):
            # One that had ended before others became known later: clocks differ.
            self._finished.sort(key=completion_order)
            self._begin()
        for trial in self._finished[self._n_passed :]:
            self._space |= trial.distributions
            if trial.state == TrialState.COMPLETE:
                self._judge(trial, directions)
        self._n_passed = len(self._finished)

    def _judge(self, trial: FrozenTrial, directions: Sequence[StudyDirection]) -> None:
        """Note a complete trial if it is the best of those before it."""
        best = self._best
        if len(directions) == 1 and best and _cannot_beat(trial, best[0], directions[0]):
            return  # Of hundreds of trials with cases, records take longer than all else.
        record = make_record(trial)
        if len(directions) == 1 and best and not _is_better(record, best[0], directions):
            return
        self._best = merge_leader(best, record, directions, 1)
        if record in self._best:
            self._improvements.append(record)


_courses = StudyMemory(_Course)


def _read_origin(trial: FrozenTrial) -> Origin:
    found = read_provenance(trial)
    is_feasible = all(value <= 0 for value in read_constraints(trial).values())
    return Origin(found.source, found.proposer, found.parent, found.second_parent, is_feasible)


def _cannot_beat(trial: FrozenTrial, best: TrialRecord, direction: StudyDirection) -> bool:
    """Whether a trial's value is no better than that of a feasible one."""
    if best.violation or not best.values or not trial.values:
        return False
    own: float = trial.values[0]
    other = best.values[0]
    return own <= other if direction == StudyDirection.MAXIMIZE else own >= other


def _is_better(a: TrialRecord, b: TrialRecord, directions: Sequence[StudyDirection]) -> bool:
    # Without the trial number, which comes last in the rank: an equal value is no improvement.
    return rank(a, directions)[:-1] < rank(b, directions)[:-1]
