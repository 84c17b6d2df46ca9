"""What one call asks for: a study's snapshot narrowed to one trial."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import TypeAlias

from optuna.distributions import BaseDistribution

from optuna_llm._images import Image
from optuna_llm._prompt.aim import find_in_vain
from optuna_llm._prompt.aim import find_target
from optuna_llm._prompt.parents import choose_parents
from optuna_llm._prompt.parents import ParentPolicy
from optuna_llm._prompt.parents import ParentRule
from optuna_llm._prompt.parents import Parents
from optuna_llm._records import ParamValue
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import TrialRecord
from optuna_llm._study.snapshot import StudySnapshot


Locator: TypeAlias = Callable[[TrialRecord, str, str], int | None]
"""Number of the trial in whose block a trial's text of a name stands, told in these words."""


@dataclass(frozen=True)
class Request:
    """What one call asks for: all that changes between calls.

    Attributes:
        problem: What is to be decided.
        number: Number of the trial that values are wanted for.
        leaders: The best trials, best last.
        parent: The trial whose texts are to be the starting point.
        second_parent: A trial to take over from beside it.
        running: Trials that run elsewhere.
        fixed: Numbers that the user has set for this trial.
        given: Texts that the user has set for this trial.
        proposals: What was proposed for other trials that have not begun yet.
        target: The value to aim at; None where there is no telling.
        in_vain: The trials since the last gain, where they are many.
        rejected: The last reply, where it could not be used, and what is wrong with it.
        images: Images of trials that are shown.
        n_hidden_images: How many more there are that cannot be shown.
    """

    problem: Problem
    number: int
    leaders: Sequence[TrialRecord] = ()
    parent: TrialRecord | None = None
    second_parent: TrialRecord | None = None
    running: Sequence[TrialRecord] = ()
    fixed: Mapping[str, ParamValue] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    proposals: Sequence[Proposal] = ()
    target: float | None = None
    in_vain: Sequence[TrialRecord] = ()
    rejected: tuple[str, str] | None = None
    images: Sequence[Image] = ()
    n_hidden_images: int = 0


def make_problem(
    snapshot: StudySnapshot,
    *,
    space: Mapping[str, BaseDistribution],
    fixed: Mapping[str, ParamValue] | None = None,
    given: Mapping[str, str] | None = None,
    new: frozenset[str] = frozenset(),
) -> Problem:
    """What is to be decided for a trial.

    Args:
        snapshot: The study.
        space: The number parameters that the trial may have.
        fixed: Numbers that the user has set.
        given: Texts that the user has set.
        new: Names of texts whose initial value the trial is to try.
    """
    fixed, given = fixed or {}, given or {}
    return Problem(
        task=snapshot.task,
        objectives=snapshot.objectives,
        space={name: d for name, d in space.items() if name not in fixed},
        texts=[t for name, t in snapshot.texts.items() if name not in given and name not in new],
        conditional=snapshot.conditional,
        constrained=snapshot.constrained,
        noise=snapshot.facts.noise,
        best_possible=snapshot.facts.best_possible,
    )


def make_request(
    snapshot: StudySnapshot,
    problem: Problem,
    number: int,
    *,
    seed: int,
    taken: Mapping[int, TrialRecord],
    fixed: Mapping[str, ParamValue] | None = None,
    given: Mapping[str, str] | None = None,
    proposals: Sequence[Proposal] = (),
    parents: ParentRule | ParentPolicy = "cases",
) -> Request:
    """What is asked for a trial.

    Args:
        snapshot: The study.
        problem: What is to be decided.
        number: The trial's number.
        seed: For the choice of a parent.
        taken: Values of trials that begin in this process, which the storage may not hold yet.
        fixed: Numbers that the user has set.
        given: Texts that the user has set.
        proposals: What was proposed for other trials that have not begun yet.
        parents: How parents are chosen.

    Raises:
        ValueError: If a function returns what cannot be parents.
    """
    chosen: Parents = None, None
    if problem.texts:
        chosen = choose_parents(snapshot, problem.texts[0].name, number, seed, parents)
    running = {record.number: record for record in snapshot.running} | dict(taken)
    running.pop(number, None)
    return Request(
        problem,
        number,
        snapshot.leaders,
        *chosen,
        [running[n] for n in sorted(running)],
        fixed or {},
        given or {},
        proposals,
        find_target(snapshot),
        find_in_vain(snapshot),
    )
