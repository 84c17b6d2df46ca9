"""The tuner as a proposer: an Optuna sampler that decides the tunables of a text."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import warnings
import zlib

import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._errors import ReplyError
from optuna_llm._outcomes import Outcome
from optuna_llm._prompt.request import Request
from optuna_llm._proposing.credit import TUNE
from optuna_llm._proposing.protocol import Accept
from optuna_llm._proposing.tuning import choose_family
from optuna_llm._records import ParamValue
from optuna_llm._records import Proposal
from optuna_llm._study.families import Family
from optuna_llm._study.importance import to_trial
from optuna_llm._study.internals import create_scratch_study
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._tunables import fill
from optuna_llm._tunables import read_param_name


_N_STARTUP = 3
"""Random trials of a family: each is an evaluation, and a family gets few."""

_N_CANDIDATES = 100

_MAX_TRIES = 10
"""How often other values are drawn where a trial has those drawn first."""

_DIGITS = 6
"""Significant digits of a value: more would only be harder to read."""


class Tuner:
    """Proposes other values for the tunables of the best texts.

    Each family is a study of its own, in memory and made of the trials when it is needed: so what
    it costs depends on the family and not on the study, and the sampler is not led astray by
    trials that have other parameters.

    Args:
        seed: For the sampler.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def find(self, snapshot: StudySnapshot, request: Request) -> Family | None:
        """The family that is worth tuning; None if there is none, or the user has set values."""
        if request.fixed or request.given:
            return None
        family = choose_family(snapshot)
        names = {text.name for text in request.problem.texts}
        if family is None or family.best is None or not names <= family.best.texts.keys():
            return None
        return family

    def propose(self, snapshot: StudySnapshot, request: Request, accept: Accept) -> Outcome:
        """Other values for the tunables of the best trial of a family, the rest as it is.

        Raises:
            ReplyError: If all that it comes upon was tried before.
        """
        family = self.find(snapshot, request)
        assert family is not None
        study = _make_study(family, snapshot.directions, f"{self._seed} {request.number}")
        for _ in range(_MAX_TRIES):
            trial = study.ask(dict(family.space))
            outcome = _make_outcome(family, request, trial.params)
            assert isinstance(outcome.result, Proposal)
            texts = outcome.result.texts
            if snapshot.find_equal(outcome.result.params, texts, besides=request.number) is None:
                accept(outcome, ())
                return outcome
            study.tell(trial, state=TrialState.FAIL)
        raise ReplyError("all values that tuning came upon were tried before.")


def _make_study(family: Family, directions: Sequence[StudyDirection], seed: str) -> optuna.Study:
    """A study of one family, whose sampler is about to propose its next values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = TPESampler(
            seed=zlib.crc32(seed.encode()),
            n_startup_trials=_N_STARTUP,
            n_ei_candidates=_N_CANDIDATES,
            multivariate=True,
        )
    study = create_scratch_study(directions, sampler)
    study.add_trials([to_trial(record, family.space) for record in family.trials])
    return study


def _make_outcome(family: Family, request: Request, params: Mapping[str, ParamValue]) -> Outcome:
    best = family.best
    assert best is not None
    values: dict[str, dict[str, ParamValue]] = {}
    for param, value in params.items():
        known = read_param_name(param)
        assert known is not None
        values.setdefault(known.text, {})[known.tunable] = _round(value, family.space[param])
    texts = {text.name: best.texts[text.name] for text in request.problem.texts}
    # The others may hold what only looks like a marker.
    texts |= {name: fill(texts[name], own) for name, own in values.items() if name in texts}
    numbers = {name: v for name, v in best.params.items() if name in request.problem.space}
    proposal = Proposal(numbers, texts, families=dict(family.key))
    return Outcome(proposal, source="tune", proposer=TUNE, parent=best.number)


def _round(value: ParamValue, domain: BaseDistribution) -> ParamValue:
    """A float to few digits, as it stands in the text; within its range."""
    if not isinstance(domain, FloatDistribution):
        return value
    assert isinstance(value, float)
    return min(max(float(f"{value:.{_DIGITS}g}"), domain.low), domain.high)
