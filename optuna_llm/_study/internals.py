"""Every private part of Optuna that this package relies on, one function each.

Optuna has no public way to do these things from a sampler or a callback. Each function has a
test in ``tests/study/test_internals.py`` that fails when Optuna changes what it relies on.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from contextvars import ContextVar
import copy
from datetime import datetime
import itertools
import logging
from typing import Any

import optuna
from optuna import Study
from optuna.samplers import BaseSampler
from optuna.samplers import PartialFixedSampler
from optuna.storages import BaseStorage
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.trial import BaseTrial
from optuna.trial import FixedTrial
from optuna.trial import FrozenTrial
from optuna.trial import Trial
from optuna.trial import TrialState

from optuna_llm._study.database import insert_values


_MOMENT_SECONDS = 2.0
"""For how long after a trial began what was read for it is as good as a read."""


def find_whole_study(study: Study) -> Study:
    """The study itself, where ``HyperbandPruner`` hands a sampler a filtered one.

    The filtered study lacks ``user_attrs``, ``set_user_attr`` and ``metric_names``, and shows only
    the trials of one bracket.
    """
    whole: Study = getattr(study, "_study", study)
    return whole


def find_storage(study: Study) -> tuple[BaseStorage, int]:
    """The study's storage, and the study's ID there."""
    return study._storage, study._study_id


def check_storage(study: Study) -> None:
    """Refuse a storage that would not give back what is stored.

    Raises:
        ValueError: If it is MLflow's, which cuts attributes at 8,000 characters in the middle of
            their JSON: neither the trial nor its study could be read again.
    """
    storage = study._storage
    if type(storage).__module__.partition(".")[0] == "mlflow":
        raise ValueError(
            f"{type(storage).__name__} cuts what is stored at 8,000 characters, and a study with "
            "a longer text could not be read again. Keep the study in another storage, and log "
            "its trials to MLflow in a callback."
        )


def find_trial_id(trial: FrozenTrial) -> int:
    """The trial's ID in its storage; unlike its number, it is unique over all studies."""
    return trial._trial_id


def read_trials(study: Study, began: datetime | None = None) -> Sequence[FrozenTrial]:
    """All trials by number, as of the first such read of this thread since its trial began.

    Optuna's own samplers share this read, so that a trial reads the storage once for all of them.

    Args:
        study: The study.
        began: When a trial began here. If that was just now, what Optuna read of the storage in
            order to begin it is taken, where the storage has kept it; trials that have begun in
            that moment may be missing.
    """
    if study._thread_local.cached_all_trials is None and began is not None:
        age = datetime.now(began.tzinfo) - began
        if abs(age.total_seconds()) < _MOMENT_SECONDS:
            study._thread_local.cached_all_trials = _find_kept_trials(study)
    return study._get_trials(deepcopy=False, states=None, use_cache=True)


def _find_kept_trials(study: Study) -> list[FrozenTrial] | None:
    """The trials that a storage has kept of its last read; None where it keeps none.

    Neither where none of them has finished: of a study that begins, nothing must be missing.
    """
    storage: Any = study._storage
    if isinstance(storage, _CachedStorage):
        studies, lock = storage._studies, storage._lock
    elif type(storage).__name__ == "GrpcStorageProxy":  # To import it takes gRPC.
        studies, lock = storage._cache.studies, storage._cache.lock
    else:
        return None
    with lock:
        held = studies.get(study._study_id)
        trials: Mapping[int, FrozenTrial] = {} if held is None else held.trials
        # A trial that another worker has begun since may be missing before this one's.
        found = map(trials.get, range(len(trials)))
        kept = [t for t in itertools.takewhile(lambda t: t is not None, found) if t is not None]
    return kept if any(trial.state.is_finished() for trial in kept) else None


def write_trial_attributes(
    study: Study, trial: FrozenTrial, attributes: Mapping[str, Any]
) -> None:
    """Write user attributes of a running trial from its sampler.

    The trial is changed too, although samplers should not change what they are given: it is the
    object that ``Trial.user_attrs`` reads from, so a write to the storage alone would stay hidden
    from the objective.
    """
    for key, value in attributes.items():
        study._storage.set_trial_user_attr(trial._trial_id, key, value)
        trial.user_attrs[key] = value


def copy_with_fresh_system_attrs(study: Study, trial: FrozenTrial) -> FrozenTrial:
    """A shallow copy of the trial, with what ``before_trial`` of a sampler has stored."""
    fresh = copy.copy(trial)
    fresh.system_attrs = study._storage.get_trial_system_attrs(trial._trial_id)
    return fresh


def enqueue_trial(study: Study, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> int:
    """Enqueue a trial as ``Study.enqueue_trial`` does, which does not tell its number.

    Args:
        study: The study.
        params: Values that the trial takes.
        attributes: Its user attributes.

    Returns:
        Its number.
    """
    waiting = optuna.trial.create_trial(
        state=TrialState.WAITING,
        system_attrs={"fixed_params": dict(params)},
        user_attrs=dict(attributes),
    )
    trial_id = study._storage.create_new_trial(study._study_id, template_trial=waiting)
    return study._storage.get_trial_number_from_id(trial_id)


def read_fixed_params(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """The parameters that ``enqueue_trial`` has set, be it none; None if it was not enqueued."""
    fixed: Mapping[str, Any] | None = trial.system_attrs.get("fixed_params")
    return fixed


def read_failed_trial(trial: FrozenTrial) -> int | None:
    """Number of the stale trial that this one retries; None if it retries none."""
    number = trial.system_attrs.get("failed_trial")
    return number if isinstance(number, int) else None


def read_constraints(trial: FrozenTrial) -> dict[str, float]:
    """Constraint values by name; infeasible above 0."""
    constraints: dict[str, float] | None = getattr(trial, "constraints", None)
    if constraints is not None:
        return constraints
    # Before Optuna 5: what a sampler's constraints_func returned, without names.
    return {str(i): c for i, c in enumerate(trial.system_attrs.get("constraints") or ())}


def read_given_params(trial: BaseTrial) -> Mapping[str, Any]:
    """Parameters that a trial was given before its objective asks for them.

    Those of a ``FixedTrial``, and of a running trial those that were enqueued.
    """
    if isinstance(trial, FixedTrial):
        params: Mapping[str, Any] = trial._params
        return params
    return trial._fixed_params if isinstance(trial, Trial) else {}


def fix_param(trial: Trial, name: str, value: Any) -> None:
    """Have a running trial take this value where its objective asks for the parameter.

    As if it had been enqueued with it, which it may have been with another.
    """
    trial._fixed_params = {name: value, **trial._fixed_params}


def read_live_trial(trial: Trial) -> FrozenTrial:
    """A running trial as this process knows it, intermediate values included, without a read."""
    return trial._cached_frozen_trial


def unwrap_trial(trial: BaseTrial) -> BaseTrial:
    """The trial itself, where somebody hands on an object that passes attributes on to it.

    Ray Tune's ``OptunaSearch`` does so in a define-by-run function, to see what is suggested.
    """
    if isinstance(trial, BaseTrial):
        return trial
    held = getattr(getattr(trial, "set_user_attr", None), "__self__", None)
    return held if isinstance(held, BaseTrial) else trial


def copy_with_values(trial: Trial, values: Mapping[int, float]) -> FrozenTrial:
    """A running trial as a pruner is handed it, with these intermediate values."""
    frozen = trial._get_latest_trial()
    frozen.intermediate_values = dict(values)
    return frozen


def report_values(trial: Trial, values: Mapping[int, float]) -> None:
    """Report finite intermediate values at once: in one statement where the storage has any.

    One by one, as ``Trial.report`` does it, hundreds of values take seconds.
    """
    storage: Any = trial.storage
    trial_id = trial._trial_id
    backend: Any = storage._backend if isinstance(storage, _CachedStorage) else storage
    if isinstance(backend, RDBStorage):
        insert_values(backend, trial_id, values)
    else:
        for step, value in values.items():
            backend.set_trial_intermediate_value(trial_id, step, value)
    trial._cached_frozen_trial.intermediate_values.update(values)


def find_sampler(trial: Trial) -> BaseSampler:
    """The sampler that decides a trial's values, where ``PartialFixedSampler`` wraps it."""
    sampler = trial.study.sampler
    while isinstance(sampler, PartialFixedSampler):
        sampler = sampler._base_sampler
    return sampler


def is_stopping(study: Study) -> bool:
    """Whether ``study.stop`` was called in the current ``optimize``."""
    return bool(study._stop_flag)


def stop_optimize(study: Study) -> None:
    """Stop the study after its running trials; outside of ``optimize`` nothing happens."""
    if study._thread_local.in_optimize_loop:
        study.stop()


def end_optimize(study: Study, error: Exception) -> None:
    """Stop the study, and have ``optimize`` raise this error when its running trials have ended.

    Raising in the objective is not enough: ``catch`` may cover the error, and with ``n_jobs``
    above 1 Optuna drops whatever the last trials raise. A ``BaseException`` would leave the trial
    RUNNING, and ``after_trial`` is not heard with several jobs either. What ``optimize`` always
    does, in its caller's thread and outside of ``catch``, is to reset a flag at its end; so that
    assignment raises. Outside of ``optimize`` nothing happens.
    """
    flags = study._thread_local
    if not flags.in_optimize_loop or isinstance(flags, _RaisingFlags):
        return
    study._thread_local = _RaisingFlags(study, flags, error)  # type: ignore[assignment]
    study.stop()


class _RaisingFlags:
    """Passes on to a study's flags per thread, and raises once ``optimize`` resets its own."""

    def __init__(self, study: Study, flags: object, error: Exception) -> None:
        # In the plain way they would be set on the study's flags.
        vars(self).update(_study=study, _flags=flags, _error=error)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_flags"], name)

    def __setattr__(self, name: str, value: object) -> None:
        held = vars(self)
        setattr(held["_flags"], name, value)
        if name == "in_optimize_loop" and not value:
            held["_study"]._thread_local = held["_flags"]
            raise held["_error"]


def read_heartbeat_interval(study: Study) -> float | None:
    """Seconds between heartbeats; None where the storage has none."""
    storage: Any = study._storage
    interval: float | None = getattr(storage, "get_heartbeat_interval", lambda: None)()
    return interval


def record_heartbeat(study: Study, trial_id: int) -> None:
    """Record a heartbeat of a trial, in a storage that has heartbeats."""
    storage: Any = study._storage
    storage.record_heartbeat(trial_id)


def create_scratch_study(
    directions: Sequence[StudyDirection], sampler: BaseSampler | None = None
) -> Study:
    """A study in memory that is nobody's business: Optuna does not say that it was created."""
    token = _is_scratch.set(True)
    try:
        return optuna.create_study(directions=list(directions), sampler=sampler)
    finally:
        _is_scratch.reset(token)


_is_scratch: ContextVar[bool] = ContextVar("_is_scratch", default=False)

logging.getLogger("optuna.storages._in_memory").addFilter(lambda record: not _is_scratch.get())


def read_study_system_attrs(study: Study) -> Mapping[str, Any]:
    """The study's system attributes, where optuna-dashboard keeps notes and plots."""
    return study._storage.get_study_system_attrs(study._study_id)
