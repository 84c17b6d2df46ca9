"""The base sampler as a proposer: the Optuna sampler that decides numbers where no model does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from optuna_llm._outcomes import Outcome
from optuna_llm._proposing.choosing import find_leader
from optuna_llm._proposing.credit import BASE
from optuna_llm._records import ParamValue
from optuna_llm._records import Proposal
from optuna_llm._study import internals


if TYPE_CHECKING:
    from optuna_llm._prompt.request import Request
    from optuna_llm._proposing.protocol import Accept
    from optuna_llm._study.snapshot import StudySnapshot


class BaseProposer:
    """Proposes the base sampler's numbers for one trial, with the texts of a leader.

    Args:
        sampler: The base sampler.
        study: The study as Optuna hands it to samplers, filtered under ``HyperbandPruner``.
        trial: The trial that begins; not changed.
        space: Its number parameters.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        study: Study,
        trial: FrozenTrial,
        space: Mapping[str, BaseDistribution],
    ) -> None:
        self._sampler = sampler
        self._study = study
        self._trial = trial
        self._space = space

    def propose(self, snapshot: StudySnapshot, request: Request, accept: Accept) -> Outcome:
        """The base sampler's values; what it repeats, ``accept`` may refuse."""
        leader = find_leader(snapshot, request.problem, request.number)
        texts = {}
        if leader is not None:
            texts = {text.name: leader.texts[text.name] for text in request.problem.texts}
        proposal = Proposal(self._sample(), texts)
        parent = leader.number if leader is not None and texts else None
        outcome = Outcome(proposal, source="base", proposer=BASE, parent=parent)
        accept(outcome, ())
        return outcome

    def _sample(self) -> dict[str, ParamValue]:
        own_space = self._sampler.infer_relative_search_space(self._study, self._trial)
        sampled = self._sampler.sample_relative(self._study, self._trial, own_space)
        values = {name: sampled[name] for name in self._space if name in sampled}
        # The rest one by one, each in the light of those before, as an objective would ask.
        trial = internals.copy_with_fresh_system_attrs(self._study, self._trial)
        trial.params = trial.params | values
        trial.distributions = trial.distributions | {n: self._space[n] for n in values}
        for name, distribution in self._space.items():
            if name not in values:
                value = self._sampler.sample_independent(self._study, trial, name, distribution)
                values[name] = value
                trial.params = trial.params | {name: value}
                trial.distributions = trial.distributions | {name: distribution}
        return values
