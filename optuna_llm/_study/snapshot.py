"""A study at one moment, as proposers see it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
import math

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection

from optuna_llm._records import ParamValue
from optuna_llm._records import TextParameter
from optuna_llm._records import TrialRecord
from optuna_llm._study.case_table import CaseTable
from optuna_llm._study.choices import ChoiceStatistics
from optuna_llm._study.distributions import count_values
from optuna_llm._study.facts import StudyFacts
from optuna_llm._study.families import FamilyBook
from optuna_llm._study.identity import digest_text
from optuna_llm._study.identity import identify
from optuna_llm._study.identity import identify_record
from optuna_llm._study.identity import Identity
from optuna_llm._study.identity import make_claim
from optuna_llm._study.sequences import Finished
from optuna_llm._study.turns import Spending
from optuna_llm._study.turns import Turn


@dataclass
class TrialIndex:
    """How finished and running trials are found by what they hold.

    It only grows as far as finished trials go, and snapshots share it: an older one may find a
    trial that has ended since, which does no harm, since nobody is to repeat that either.

    Attributes:
        by_number: The finished trials.
        by_text: Name and digest of a text to the first finished trial that has it.
        latest_with: Name of a text to the trial that finished last and has it.
        by_feedback: Long feedback to the first finished trial that has it.
        by_identity: For each set of parameter names, identities to numbers of finished trials.
        shapes: The sets of parameter names that complete and pruned trials have used.
        running: Identities to numbers of running trials.
        claims: Claims to numbers of running and waiting trials.
        steps: Numbers of the trials that were the best when they ended.
        repeats: Identities that several complete trials share to these trials.
        variants: Numbers of the trials that only gave the tunables of an earlier one other values.
    """

    by_number: dict[int, TrialRecord] = field(default_factory=dict)
    by_text: dict[tuple[str, str], TrialRecord] = field(default_factory=dict)
    latest_with: dict[str, TrialRecord] = field(default_factory=dict)
    by_feedback: dict[str, TrialRecord] = field(default_factory=dict)
    by_identity: dict[frozenset[str], dict[Identity, int]] = field(default_factory=dict)
    shapes: set[frozenset[str]] = field(default_factory=set)
    running: Mapping[Identity, Sequence[int]] = field(default_factory=dict)
    claims: Mapping[str, Sequence[int]] = field(default_factory=dict)
    steps: set[int] = field(default_factory=set)
    repeats: dict[Identity, list[TrialRecord]] = field(default_factory=dict)
    variants: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class StudySnapshot:
    """What is known of a study at one moment; nothing in it changes later.

    Attributes:
        task: What the study is about; empty where nobody has said.
        objectives: Name and direction of each objective.
        texts: The declared text parameters by name.
        space: The number parameters that trials have used, with the range used last, by name.
            Those of a single value are left out.
        conditional: Names of the parameters, texts included, that some trial did without; failed
            trials aside.
        constrained: Whether any trial has constraints.
        n_trials: Number of trials in any state.
        finished: The finished trials that have values, in order of completion.
        told: Those of them that the model is told one by one: all but those that only
            gave the tunables of an earlier one other values.
        complete: Those of them that are complete.
        running: The running trials that have values, by number.
        first_running: The lowest number of a running trial; None where none runs.
        leaders: The best complete trials, best last; of several objectives some of the Pareto
            front. Infeasible ones only while none is feasible.
        gains: By how much the best value has improved, each time; one objective only.
        since_gain: The model's complete trials since then, in order of completion; those as good
            as the best are left out.
        longest: Length of the longest text in characters, by name.
        has_results: Whether any trial has ended.
        n_empty: Number of trials that ended before they had values.
        latest_with_images: The trial that finished last of those that have images.
        facts: What the user has told of the study.
        insights: What a model has learned from the trials so far, a line each.
        choices: What came of each choice of the categorical parameters.
        cases: What trials have reached in each case.
        case_names: Names of cases, by number.
        families: The trials with tunables, by family; shared with later snapshots, so that it may
            know of trials that have ended since.
        turns: What each finished trial tells of its proposer, in order of completion.
        spent: What the proposals of each proposer have cost.
    """

    task: str
    objectives: Sequence[tuple[str, StudyDirection]]
    texts: Mapping[str, TextParameter]
    space: Mapping[str, BaseDistribution]
    conditional: frozenset[str]
    constrained: bool
    n_trials: int
    finished: Finished
    told: Finished
    complete: Sequence[TrialRecord]
    running: Sequence[TrialRecord]
    first_running: int | None
    leaders: Sequence[TrialRecord]
    gains: Sequence[float]
    since_gain: Sequence[TrialRecord]
    longest: Mapping[str, int]
    has_results: bool
    n_empty: int
    latest_with_images: TrialRecord | None
    facts: StudyFacts
    insights: Sequence[str]
    choices: ChoiceStatistics = field(repr=False)
    cases: CaseTable = field(repr=False)
    case_names: Mapping[int, str] = field(repr=False)
    families: FamilyBook = field(repr=False)
    turns: Sequence[Turn] = field(repr=False)
    spent: Mapping[str, Spending] = field(repr=False)
    _index: TrialIndex = field(repr=False)

    @property
    def directions(self) -> list[StudyDirection]:
        """The study's directions."""
        return [direction for _, direction in self.objectives]

    def find(self, number: int | None) -> TrialRecord | None:
        """The finished trial of this number, if there is one."""
        return None if number is None else self._index.by_number.get(number)

    def is_step(self, record: TrialRecord) -> bool:
        """Whether a finished trial was the best of those before it."""
        return record.number in self._index.steps

    def is_variant(self, record: TrialRecord) -> bool:
        """Whether a trial only gave the tunables of an earlier one other values."""
        return record.number in self._index.variants

    def find_repeats(self, record: TrialRecord) -> Sequence[TrialRecord]:
        """The complete trials with the same values, in order of completion, itself included."""
        return self._index.repeats.get(identify_record(record), ())

    def find_same_text(self, name: str, text: str) -> TrialRecord | None:
        """The first finished trial that has this text, white space at line ends aside."""
        return self._index.by_text.get((name, digest_text(text)))

    def find_same_feedback(self, record: TrialRecord) -> TrialRecord | None:
        """The first finished trial with the same long feedback."""
        return self._index.by_feedback.get(record.feedback)

    def find_latest_with(self, name: str) -> TrialRecord | None:
        """The trial that finished last and has a text of this name."""
        return self._index.latest_with.get(name)

    def find_equal(
        self,
        params: Mapping[str, ParamValue],
        texts: Mapping[str, str],
        *,
        besides: int | None = None,
    ) -> int | None:
        """Number of a trial whose values are all among these, or that has claimed them.

        A trial that failed or still runs may lack values that it would have asked for: it counts
        if a complete or pruned trial has used exactly the same parameters.

        Args:
            params: Proposed numbers, those that a trial may not ask for included.
            texts: Proposed texts.
            besides: Number of the trial that the values are for, if it has begun.
        """
        values = dict(identify(params, texts))
        # A copy, since another thread may take in what has ended.
        for shape in list(self._index.shapes):
            if shape <= values.keys():
                key = tuple(sorted((name, values[name]) for name in shape))
                found = self._index.by_identity[shape].get(key)
                if found is None:
                    found = _find_other(self._index.running.get(key, ()), besides)
                if found is not None:
                    return found
        claimants = self._index.claims.get(make_claim(params, texts), ())
        return _find_other(claimants, besides)

    def is_exhausted(self, space: Mapping[str, BaseDistribution]) -> bool:
        """Whether every point of a space of numbers has been tried, so that all would repeat."""
        size = math.prod(count_values(distribution) for distribution in space.values())
        tried = self._index.by_identity.get(frozenset(space), ())
        return len(self._index.shapes) == 1 and len(tried) >= size


def _find_other(numbers: Sequence[int], besides: int | None) -> int | None:
    return next((number for number in numbers if number != besides), None)
