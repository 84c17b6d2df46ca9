"""A study's trials as records, read once each: what was tried, what is best, what is known."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from hashlib import blake2b
import math
from typing import TypeAlias

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._records import ParamValue
from optuna_llm._records import TrialRecord
from optuna_llm._study import attributes as stored
from optuna_llm._study.distributions import count_values
from optuna_llm._study.distributions import write_number


_SHORT_FEEDBACK = 60
"""What is no longer than this may be repeated."""

_Key: TypeAlias = tuple[tuple[str, str], ...]


class History:
    """The trials of one study, kept up to date at the cost of what is new.

    Args:
        directions: The study's directions.
        n_leaders: How many of the best trials are kept at hand; at least 2.

    Attributes:
        directions: The study's directions.
        finished: Records of the finished trials that have values, in order of completion.
        running: Records of the trials that run now and have values, by number.
        constrained: Whether any trial has constraints.
        n_trials: How many trials there are, in any state.
        text_names: Names of the texts that trials have.
        longest: How many characters the longest text of a name has.
        gains: By how much the best value of the one objective has improved, each time.
        since_gain: The complete trials since then, in order of completion.
    """

    def __init__(self, directions: Sequence[StudyDirection], n_leaders: int = 5) -> None:
        self.directions = directions
        self._n_leaders = n_leaders
        self._seen: set[int] = set()
        self._by_number: dict[int, TrialRecord] = {}
        self._space_used: dict[str, tuple[int, BaseDistribution]] = {}
        self._uses: dict[str, int] = {}
        self._n_asked = 0
        self._first_texts: dict[tuple[str, str], TrialRecord] = {}
        self._keys: dict[frozenset[str], dict[_Key, int]] = {}
        self._shapes: set[frozenset[str]] = set()
        self.finished: list[TrialRecord] = []
        self.running: list[TrialRecord] = []
        self._best: list[TrialRecord] = []
        self._claims: dict[str, list[int]] = {}
        self.constrained = False
        self.n_trials = 0
        self.text_names: set[str] = set()
        self.longest: dict[str, int] = {}
        self.gains: list[float] = []
        self.since_gain: list[TrialRecord] = []
        self._first_feedback: dict[str, TrialRecord] = {}

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in what has happened since the last call.

        Args:
            trials: All trials of the study.
        """
        self.n_trials = len(trials)
        new = []
        running = []
        for trial in trials:
            if trial.number in self._seen:
                continue
            if trial.state.is_finished():
                new.append(trial)
            elif trial.state == TrialState.RUNNING:
                running.append(trial)
        for trial in sorted(new, key=completion_order):
            self._add_finished(trial)
        for trial in running:
            self.note_space(trial)
        records = [make_record(trial) for trial in running]
        self.running = [record for record in records if record.params or record.texts]
        self.text_names.update(*(record.texts for record in self.running))
        claims = ((stored.read_claim(trial.user_attrs), trial.number) for trial in running)
        self._claims = {}
        for claim, number in claims:
            if claim is not None:
                self._claims.setdefault(claim, []).append(number)

    @property
    def has_results(self) -> bool:
        """Whether any trial has ended."""
        return bool(self._seen)

    def note_space(self, trial: FrozenTrial) -> None:
        """Learn which number parameters a trial has used."""
        for name, distribution in trial.distributions.items():
            number, _ = self._space_used.get(name, (-1, None))
            if trial.number >= number:
                self._space_used[name] = (trial.number, distribution)

    @property
    def leaders(self) -> list[TrialRecord]:
        """The best complete trials, best last; of several objectives some of the Pareto front.

        Infeasible ones only as long as none is feasible.
        """
        feasible = [record for record in self._best if not record.violation]
        return spread(feasible or self._best, self._n_leaders)[::-1]

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """Union of the number parameters that trials have used, with the range used last."""
        return {
            name: distribution
            for name, (_, distribution) in sorted(self._space_used.items())
            if not distribution.single()
        }

    @property
    def conditional(self) -> frozenset[str]:
        """Names of the parameters, texts too, that some trial did without, failed ones aside."""
        names = self._space_used.keys() | self._uses.keys()
        return frozenset(n for n in names if self._uses.get(n, 0) < self._n_asked)

    def is_finished(self, number: int) -> bool:
        """Whether the trial of this number has ended."""
        return number in self._seen

    def find(self, number: int | None) -> TrialRecord | None:
        """The record of a finished trial, if there is one of this number."""
        return None if number is None else self._by_number.get(number)

    def find_same_text(self, name: str, text: str) -> TrialRecord | None:
        """The first finished trial that has this text, up to blanks."""
        return self._first_texts.get((name, _digest(text)))

    def latest_with(self, name: str) -> TrialRecord | None:
        """The trial that finished last and has a text of this name."""
        return next((r for r in reversed(self.finished) if name in r.texts), None)

    def find_equal(
        self, numbers: Mapping[str, ParamValue], texts: Mapping[str, str], but: int | None
    ) -> int | None:
        """Number of a trial whose values are all among these, as far as can be told.

        Values equal to the last digit shown, and texts that differ in white space at line ends
        and in blank lines only, are equal. A trial that failed or still runs may lack values
        that it would have asked for: it counts if a complete or pruned trial has used exactly
        the same parameters.

        Args:
            numbers: Proposed numbers, those that a trial may not ask for included.
            texts: Proposed texts.
            but: Number of the trial that the values are for, if it has begun.
        """
        values = _written(numbers, texts)
        for shape in self._shapes:
            if shape <= values.keys():
                key = tuple(sorted((name, values[name]) for name in shape))
                found = self._keys[shape].get(key)
                if found is not None:
                    return found
                for record in self.running:
                    if record.number != but and key == _key(record):
                        return record.number
        return None

    def find_same_feedback(self, record: TrialRecord) -> TrialRecord | None:
        """The first finished trial with the same long feedback."""
        return self._first_feedback.get(record.feedback)

    def find_claim(self, claim: str, but: int | None) -> int | None:
        """Number of another running trial that is about to take the values of a claim."""
        return next((number for number in self._claims.get(claim, ()) if number != but), None)

    def is_exhausted(self, space: Mapping[str, BaseDistribution]) -> bool:
        """Whether every point of a space of numbers has been tried, so that all would repeat."""
        size = math.prod(count_values(distribution) for distribution in space.values())
        return len(self._shapes) == 1 and len(self._keys.get(frozenset(space), ())) >= size

    def _add_finished(self, trial: FrozenTrial) -> None:
        self._seen.add(trial.number)
        self.note_space(trial)
        record = make_record(trial)
        if not record.params and not record.texts:
            return  # It failed before it had values: nothing to learn from.
        shape = frozenset(record.params) | frozenset(record.texts)
        written = _written(record.params, record.texts)
        self.text_names.update(record.texts)
        self.finished.append(record)
        self._by_number[record.number] = record
        for name, text in record.texts.items():
            self.longest[name] = max(len(text), self.longest.get(name, 0))
            self._first_texts.setdefault((name, written[name]), record)
        key = tuple(sorted(written.items()))
        self._keys.setdefault(shape, {}).setdefault(key, record.number)
        self.constrained = self.constrained or bool(record.constraints)
        if record.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self._shapes.add(shape)
            self._n_asked += 1
            for name in shape:
                self._uses[name] = self._uses.get(name, 0) + 1
        if len(record.feedback) > _SHORT_FEEDBACK:
            self._first_feedback.setdefault(record.feedback, record)
        if record.state == TrialState.COMPLETE:
            self._note_gain(record)
            self._best = add_leader(self._best, record, self.directions, self._n_leaders)

    def _note_gain(self, record: TrialRecord) -> None:
        """Learn what a complete trial has gained, before it is among the best."""
        if len(self.directions) > 1 or not self._best:
            return
        former, new = (_costs(r, self.directions)[0] for r in (self._best[0], record))
        if record.violation or self._best[0].violation or not new < former:
            self.since_gain.append(record)
        else:
            self.since_gain = []
            if math.isfinite(former - new):
                self.gains.append(former - new)


def name_objectives(study: Study) -> tuple[tuple[str, StudyDirection], ...]:
    """Name and direction of each objective of a study."""
    names = study.metric_names
    if names is None:
        count = len(study.directions)
        names = ["value"] if count == 1 else [f"value {i}" for i in range(count)]
    return tuple(zip(names, study.directions, strict=True))


def make_claim(numbers: Mapping[str, ParamValue], texts: Mapping[str, str]) -> str:
    """A digest of the values that a trial is about to take, the same for equal values."""
    told = repr(sorted(_written(numbers, texts).items()))
    return blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def make_record(trial: FrozenTrial) -> TrialRecord:
    """What the model may know of a trial."""
    attributes = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        state=trial.state,
        values=None if trial.values is None else tuple(trial.values),
        params={
            name: value
            for name, value in sorted(trial.params.items())
            if not trial.distributions[name].single()
        },
        texts=stored.read_texts(attributes),
        step=trial.last_step,
        constraints=stored.read_constraints(trial),
        feedback=stored.read_feedback(attributes),
        rationale=stored.read_rationale(attributes),
        parent=stored.read_parent(attributes),
    )


def add_leader(
    leaders: Sequence[TrialRecord],
    record: TrialRecord,
    directions: Sequence[StudyDirection],
    count: int,
) -> list[TrialRecord]:
    """The leaders after one more complete trial, best first.

    Of one objective the best ``count`` trials; feasible ones come before infeasible ones, and
    those by their violation. Of several objectives the whole Pareto front.
    """
    if len(directions) == 1:
        return sorted([*leaders, record], key=lambda r: rank(r, directions))[:count]
    if any(_dominates(leader, record, directions) for leader in leaders):
        return list(leaders)
    beaten = {id(leader) for leader in leaders if _dominates(record, leader, directions)}
    front = [leader for leader in leaders if id(leader) not in beaten]
    return sorted([*front, record], key=lambda r: rank(r, directions))


def spread(front: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """At most ``count`` of the records, evenly from the first to the last."""
    if len(front) <= count:
        return list(front)
    return [front[round(i * (len(front) - 1) / (count - 1))] for i in range(count)]


def find_front(
    trials: Sequence[TrialRecord], directions: Sequence[StudyDirection]
) -> list[TrialRecord]:
    """Those of the trials that no other dominates."""
    return [t for t in trials if not any(_dominates(other, t, directions) for other in trials)]


def rank(record: TrialRecord, directions: Sequence[StudyDirection]) -> tuple[float, ...]:
    """What puts complete trials in order, the best first: violation, then values."""
    return (record.violation, *_costs(record, directions), record.number)


def _dominates(a: TrialRecord, b: TrialRecord, directions: Sequence[StudyDirection]) -> bool:
    if a.violation or b.violation:
        return a.violation < b.violation
    costs = list(zip(_costs(a, directions), _costs(b, directions), strict=True))
    return all(x <= y for x, y in costs) and any(x < y for x, y in costs)


def _costs(record: TrialRecord, directions: Sequence[StudyDirection]) -> list[float]:
    """The objective values, turned so that less is better."""
    return [
        -value if direction == StudyDirection.MAXIMIZE else value
        for value, direction in zip(record.values or (), directions, strict=True)
    ]


def completion_order(trial: FrozenTrial) -> tuple[float, int]:
    ended = trial.datetime_complete
    return (ended.timestamp() if ended else math.inf, trial.number)


def _key(record: TrialRecord) -> _Key:
    return tuple(sorted(_written(record.params, record.texts).items()))


def _written(numbers: Mapping[str, ParamValue], texts: Mapping[str, str]) -> dict[str, str]:
    written = {name: write_number(value) for name, value in numbers.items()}
    return written | {name: _digest(text) for name, text in texts.items()}


def _digest(text: str) -> str:
    """What texts share that differ in blanks at line ends and blank lines only.

    Indentation counts: it can be meaning.
    """
    lines = (stripped for line in text.splitlines() if (stripped := line.rstrip()))
    return blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
