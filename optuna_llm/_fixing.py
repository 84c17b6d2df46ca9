"""Tuning the numbers of one text with any Optuna sampler, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import threading
from typing import Any

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState

from optuna_llm._records import Proposal
from optuna_llm._records import TrialRecord
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.families import identify_skeleton
from optuna_llm._study.history import make_record
from optuna_llm._study.identity import digest_text
from optuna_llm._study.running import pack_texts
from optuna_llm._study.tunings import find_params
from optuna_llm._tunables import fill


def fix_text(study: Study, trial: FrozenTrial, sampler: BaseSampler | None = None) -> BaseSampler:
    """A sampler that keeps a trial's texts and tunes the numbers, those in the texts included.

    .. code-block:: python

        study.sampler = fix_text(study, study.best_trial, optuna.samplers.CmaEsSampler())
        study.optimize(objective, n_trials=50)

    The trials are the study's, of the source ``tune``, and a model that proposes later on is told
    what came of them.

    Args:
        study: The study.
        trial: One of its finished trials.
        sampler: Decides the numbers, from the trials that have the same texts, other values of
            their tunables aside; :class:`~optuna.samplers.TPESampler` by default.

    Raises:
        ValueError: If the trial has no texts, or nothing that could be tuned: no number parameters
            and no tunables (see :func:`suggest_text`).
    """
    record = make_record(trial)
    if not record.texts:
        raise ValueError(f"Trial {trial.number} has no texts that could be kept.")
    if not trial.distributions:
        raise ValueError(
            f"Trial {trial.number} has no numbers that could be tuned: mark some in its text, and "
            "ask for it by suggest_text(..., tunable=True)."
        )
    return _FixedTextSampler(study, trial, sampler or TPESampler(multivariate=True))


class _FixedTextSampler(BaseSampler):
    """Has a sampler decide the numbers in a study of its own, of the trials with these texts.

    So it sees one search space, whatever else the study holds, and may keep its state there.
    """

    def __init__(self, study: Study, trial: FrozenTrial, sampler: BaseSampler) -> None:
        record = make_record(trial)
        self._texts = record.texts
        self._families = {name: tuning.family for name, tuning in record.tuned.items()}
        self._kept = _make_identity(record)
        self._space = dict(trial.distributions)
        self._tunables = find_params(trial, trial.distributions)
        self._parent = trial.number
        self._own = internals.create_scratch_study(study.directions, sampler)
        self._asked: dict[int, Trial] = {}
        self._n_read = 0
        self._open: list[int] = []
        self._own_numbers: set[int] = set()
        self._lock = threading.Lock()

    def reseed_rng(self) -> None:
        self._own.sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {n: d for n, d in self._space.items() if n not in self._tunables}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        with self._lock:
            self._read(internals.read_trials(study))
            asked = self._own.ask(self._space)
            self._asked[trial.number] = asked
            self._own_numbers.add(trial.number)
        texts = {name: self._fill(name, asked.params) for name in self._texts}
        provenance = stored.Provenance(
            source="tune",
            proposer="tune",
            parent=self._parent,
            texts=stored.count_pieces(texts),
        )
        internals.write_trial_attributes(study, trial, stored.provenance_attributes(provenance))
        proposal = Proposal({}, texts, families=self._families)
        return {**{n: asked.params[n] for n in search_space}, **pack_texts(proposal)}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        # A parameter that the trial whose text is kept did without.
        return self._own.sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        with self._lock:
            asked = self._asked.pop(trial.number, None)
            if asked is not None and state == TrialState.COMPLETE:
                self._own.tell(asked, values)
            elif asked is not None:
                self._own.tell(asked, state=TrialState.FAIL)

    def _read(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in the trials of other samplers that have ended since."""
        self._open += range(self._n_read, len(trials))
        self._n_read = len(trials)
        ended = [i for i in self._open if trials[i].state.is_finished()]
        self._open = [i for i in self._open if not trials[i].state.is_finished()]
        relatives = (trials[i] for i in ended if trials[i].number not in self._own_numbers)
        for trial in relatives:
            has_params = self._space.keys() <= trial.params.keys()
            if trial.state != TrialState.COMPLETE or not has_params:
                continue
            if _make_identity(make_record(trial, self._texts)) == self._kept:
                params = {name: trial.params[name] for name in self._space}
                self._own.add_trial(
                    optuna.trial.create_trial(
                        values=trial.values, params=params, distributions=self._space
                    )
                )

    def _fill(self, name: str, params: Mapping[str, Any]) -> str:
        """A text with these values of its tunables."""
        own = {p.tunable: params[n] for n, p in self._tunables.items() if p.text == name}
        return fill(self._texts[name], own) if own else self._texts[name]


def _make_identity(record: TrialRecord) -> dict[str, str]:
    """What the texts of trials share that differ in the values of their tunables only."""
    return {
        name: identify_skeleton(text) if name in record.tuned else digest_text(text)
        for name, text in record.texts.items()
    }
