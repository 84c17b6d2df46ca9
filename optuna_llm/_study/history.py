"""The trials of a study as records, read once each, and what follows from them."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
import math
from types import MappingProxyType
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._records import TextParameter
from optuna_llm._records import TrialRecord
from optuna_llm._study import attributes as stored
from optuna_llm._study.case_table import CaseTable
from optuna_llm._study.cases import read_cases
from optuna_llm._study.choices import ChoiceStatistics
from optuna_llm._study.facts import StudyFacts
from optuna_llm._study.families import FamilyBook
from optuna_llm._study.identity import digest_text
from optuna_llm._study.identity import identify_record
from optuna_llm._study.identity import Identity
from optuna_llm._study.internals import read_constraints
from optuna_llm._study.leaders import Leaders
from optuna_llm._study.ranking import rank
from optuna_llm._study.sequences import add_sorted
from optuna_llm._study.sequences import Finished
from optuna_llm._study.sequences import Order
from optuna_llm._study.sequences import Prefix
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._study.snapshot import TrialIndex
from optuna_llm._study.tunings import find_params
from optuna_llm._study.tunings import mark_texts
from optuna_llm._study.tunings import read_tunings
from optuna_llm._study.turns import TurnBook


NO_FACTS = StudyFacts()

_SHORT_FEEDBACK = 60
"""Feedback up to this length is shown again even if an earlier trial had the same."""


class History:
    """Takes in a study's trials as they come and go; not thread-safe.

    Each finished trial is read once. What has not changed of a running trial is not read again.

    Args:
        objectives: Name and direction of each objective.
    """

    def __init__(self, objectives: Sequence[tuple[str, StudyDirection]]) -> None:
        self._objectives = objectives
        self._directions = [direction for _, direction in objectives]
        self._declared: Collection[str] = ()
        self._index = TrialIndex()
        self._n_seen = 0
        self._open: set[int] = set()
        self._n_ended = 0
        self._running: dict[int, _RunningTrial] = {}
        self._finished: list[TrialRecord] = []
        self._told: list[TrialRecord] = []
        self._complete: list[TrialRecord] = []
        self._order: Order = []
        self._told_order: Order = []
        self._latest_with_images: TrialRecord | None = None
        self._space: dict[str, tuple[int, BaseDistribution]] = {}
        self._uses: dict[str, int] = {}
        self._n_asked = 0
        self._leaders = Leaders(self._directions, self._index)
        self._constrained = False
        self._longest: dict[str, int] = {}
        self._choices = ChoiceStatistics(self._directions)
        self._turns = TurnBook(self._directions)
        self._cases = CaseTable(self._directions)
        self._families = FamilyBook(self._directions)

    def update(
        self, trials: Sequence[FrozenTrial], texts: Collection[str] = (), noise: float = 0.0
    ) -> None:
        """Take in what has happened since the last call.

        Args:
            trials: All trials of the study, by number.
            texts: Names of the declared text parameters, the same in all calls.
            noise: Standard deviation of the objective; a smaller gain is none.
        """
        self._declared = texts
        self._leaders.noise = noise
        self._open.update(range(self._n_seen, len(trials)))
        self._n_seen = max(self._n_seen, len(trials))
        ended = [i for i in self._open if i < len(trials) and trials[i].state.is_finished()]
        self._open.difference_update(ended)
        n_ranked = len(self._order)
        for trial in sorted((trials[i] for i in ended), key=completion_order):
            self._add_finished(trial)
        new = self._complete[n_ranked:]
        self._order = add_sorted(self._order, [rank(r, self._directions) for r in new])
        told = [rank(r, self._directions) for r in new if r.number not in self._index.variants]
        self._told_order = add_sorted(self._told_order, told)
        self._update_running([trials[i] for i in sorted(self._open) if i < len(trials)])

    def list_unfinished(self) -> tuple[Collection[int], Collection[int]]:
        """Numbers of the trials that had not finished, and of those of them that had values."""
        valued = {number for number, r in self._running.items() if r.has_values}
        return set(self._open), valued

    def learn_space(self, trial: FrozenTrial) -> None:
        """Learn which number parameters a trial has used, and their ranges."""
        tunables = find_params(trial, trial.distributions)
        for name, distribution in trial.distributions.items():
            number, _ = self._space.get(name, (-1, None))
            if trial.number >= number and name not in tunables:
                self._space[name] = (trial.number, distribution)

    def make_snapshot(
        self,
        task: str,
        texts: Mapping[str, TextParameter],
        facts: StudyFacts = NO_FACTS,
        insights: Sequence[str] = (),
        case_names: Mapping[int, str] = MappingProxyType({}),
    ) -> StudySnapshot:
        """The study as it is now.

        Args:
            task: What it is about.
            texts: Its declared text parameters.
            facts: What the user has told of it.
            insights: What a model has learned from its trials.
            case_names: Names of cases, by number.
        """
        names = self._space.keys() | self._uses.keys()
        return StudySnapshot(
            task=task,
            objectives=self._objectives,
            texts=texts,
            space=self.space,
            conditional=frozenset(n for n in names if self._uses.get(n, 0) < self._n_asked),
            first_running=min(self._running, default=None),
            constrained=self._constrained,
            n_trials=self._n_seen,
            finished=Finished(self._finished, self._order, self._index.by_number),
            told=Finished(self._told, self._told_order, self._index.by_number),
            complete=Prefix(self._complete),
            running=[r.record for r in self._running.values() if r.has_values],
            leaders=self._leaders.shown,
            gains=tuple(self._leaders.gains),
            since_gain=Prefix(self._leaders.since_gain),
            longest=dict(self._longest),
            has_results=self._n_ended > 0,
            n_empty=self._n_ended - len(self._finished),
            latest_with_images=self._latest_with_images,
            facts=facts,
            insights=insights,
            choices=self._choices,
            cases=self._cases,
            case_names=case_names,
            families=self._families,
            turns=Prefix(self._turns.turns),
            spent=self._turns.copy_spent(),
            # A later update gives the history's own index other running trials.
            _index=replace(self._index),
        )

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """The number parameters that trials have used, with the range used last, by name."""
        return {n: d for n, (_, d) in sorted(self._space.items()) if not d.single()}

    @property
    def text_names(self) -> set[str]:
        """Names of all texts that trials have."""
        running = (name for r in self._running.values() for name in r.record.texts)
        return self._longest.keys() | set(running)

    def _update_running(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in the unfinished trials, by number; those that wait may have claimed values."""
        now: dict[int, _RunningTrial] = {}
        claims: dict[str, list[int]] = {}
        for trial in trials:
            if trial.state == TrialState.WAITING:
                claim = stored.read_provenance(trial).claim
                if claim is not None:
                    claims.setdefault(claim, []).append(trial.number)
                continue
            known = self._running.get(trial.number)
            if known is None or not known.is_same(trial):
                self.learn_space(trial)
                known = _RunningTrial(trial, self._declared)
            now[trial.number] = known
        identities: dict[Identity, list[int]] = {}
        for number, running in now.items():
            if running.has_values:
                identities.setdefault(running.identity, []).append(number)
            if running.claim is not None:
                claims.setdefault(running.claim, []).append(number)
        self._running = now
        self._index.running, self._index.claims = identities, claims

    def _add_finished(self, trial: FrozenTrial) -> None:
        self._n_ended += 1
        self.learn_space(trial)
        record = make_record(trial, self._declared)
        gain = self._leaders.note_gain(record) if record.state == TrialState.COMPLETE else 0.0
        self._turns.add(record, stored.read_provenance(trial), gain)
        if not record.params and not record.texts:
            return  # It failed before it had values: there is nothing to learn from.
        identity = identify_record(record)
        shape = frozenset(name for name, _ in identity)
        self._finished.append(record)
        self._constrained = self._constrained or bool(record.constraints)
        for name, text in record.texts.items():
            self._longest[name] = max(len(text), self._longest.get(name, 0))
            self._index.by_text.setdefault((name, digest_text(text)), record)
            self._index.latest_with[name] = record
        if record.images:
            self._latest_with_images = record
        self._index.by_number[record.number] = record
        self._index.by_identity.setdefault(shape, {}).setdefault(identity, record.number)
        if record.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self._index.shapes.add(shape)
            self._n_asked += 1
            for name in shape:
                self._uses[name] = self._uses.get(name, 0) + 1
        if len(record.feedback) > _SHORT_FEEDBACK:
            self._index.by_feedback.setdefault(record.feedback, record)
        self._choices.add(record, self.space)
        self._cases.add(record)
        is_relative = self._families.add(record)
        if is_relative and record.source not in ("model", "user"):
            self._index.variants.add(record.number)
        else:
            self._told.append(record)
        if record.state == TrialState.COMPLETE:
            self._complete.append(record)
            self._leaders.add(record, identity)


class _RunningTrial:
    """A running trial as it was read last."""

    def __init__(self, trial: FrozenTrial, declared: Collection[str]) -> None:
        self._params: Mapping[str, Any] = dict(trial.params)
        self._attributes: Mapping[str, Any] = dict(trial.user_attrs)
        self.record = make_record(trial, declared)
        self.has_values = bool(self.record.params or self.record.texts)
        self.identity = identify_record(self.record)
        self.claim = stored.read_provenance(trial).claim

    def is_same(self, trial: FrozenTrial) -> bool:
        """Whether nothing has changed since, but for intermediate values."""
        return self._params == trial.params and self._attributes == trial.user_attrs


def name_objectives(study: Study) -> tuple[tuple[str, StudyDirection], ...]:
    """Name and direction of each objective of a study."""
    names = study.metric_names
    if names is None:
        count = len(study.directions)
        names = ["value"] if count == 1 else [f"value {i}" for i in range(count)]
    return tuple(zip(names, study.directions, strict=True))


def make_record(trial: FrozenTrial, declared: Collection[str] = ()) -> TrialRecord:
    """What the model may know of a trial.

    Args:
        trial: The trial.
        declared: Names of text parameters, whose values a user may have set by hand.
    """
    stored.skip_unknown_keys(trial)
    provenance = stored.read_provenance(trial)
    cases = read_cases(trial)
    tunables = find_params(trial, trial.params)
    texts = mark_texts(trial, stored.find_texts(trial, declared))
    return TrialRecord(
        number=trial.number,
        state=trial.state,
        values=None if trial.values is None else tuple(trial.values),
        params={
            name: value
            for name, value in sorted(trial.params.items())
            if not trial.distributions[name].single() and name not in tunables
        },
        texts=texts,
        tuned=read_tunings(trial, texts),
        step=trial.last_step,
        constraints=read_constraints(trial),
        feedback=stored.read_feedback(trial),
        rationale=provenance.rationale,
        parent=provenance.parent,
        second_parent=provenance.second_parent,
        source=provenance.source,
        images=stored.read_images(trial),
        cases=cases.results,
        n_cases=cases.count,
        noise=cases.noise,
    )


def completion_order(trial: FrozenTrial) -> tuple[float, int]:
    """Sort key that puts finished trials in the order in which they ended."""
    ended = trial.datetime_complete
    return (ended.timestamp() if ended else math.inf, trial.number)
