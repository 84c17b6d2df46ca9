"""What is asked of the database behind Optuna's storage itself: what Optuna has no method for.

Like ``internals.py``, this relies on private parts of Optuna, with tests that fail when they
change: its tables.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Study
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage


@dataclass(frozen=True)
class Mark:
    """What is found of one attribute of a trial, without reading the trial.

    Attributes:
        number: The trial's number.
        is_finished: Whether it has finished.
        has: Which of the marks looked for the attribute's JSON holds; None where the trial has no
            such attribute.
    """

    number: int
    is_finished: bool
    has: Sequence[bool] | None


def find_marks(
    study: Study, key: str, marks: Sequence[str], *, unfinished: Collection[int], n_known: int
) -> Sequence[Mark] | None:
    """Look for marks in one user attribute of all trials that may have changed.

    A database looks for them itself: to read these trials would load all that they hold, at
    0.65 ms each.

    Args:
        study: The study.
        key: The attribute's key.
        marks: Substrings of its JSON.
        unfinished: Numbers of the trials that had not finished when the study was read last.
        n_known: Number of trials that it had then.

    Returns:
        The marks, or None where trials have to be read: in other storages than a database.
    """
    storage: Any = study._storage
    if not isinstance(storage, _CachedStorage) or not n_known:
        return None
    with storage._lock:
        known = storage._studies[study._study_id].trials
        if n_known - 1 not in known:
            return None
        last = known[n_known - 1]._trial_id
        ids = [known[number]._trial_id for number in unfinished if number in known]
    return _select_marks(storage._backend, study._study_id, key, marks, ids, last)


def _select_marks(
    storage: RDBStorage, study_id: int, key: str, marks: Sequence[str], ids: list[int], last: int
) -> Sequence[Mark] | None:
    from optuna.storages._rdb import models
    from optuna.storages._rdb.storage import _create_scoped_session
    import sqlalchemy

    trial: Any = models.TrialModel
    attribute: Any = models.TrialUserAttributeModel
    columns = [attribute.value_json.contains(mark, autoescape=True) for mark in marks]
    is_same = sqlalchemy.and_(attribute.trial_id == trial.trial_id, attribute.key == key)
    try:
        with _create_scoped_session(storage.scoped_session) as session:
            rows = (
                session.query(trial.number, trial.state, attribute.trial_id, *columns)
                .outerjoin(attribute, is_same)
                .filter(trial.study_id == study_id)
                .filter(sqlalchemy.or_(trial.trial_id.in_(ids), trial.trial_id > last))
                .all()
            )
    except StorageInternalError:
        return None  # More variables than the database takes, or a reading will say what it is.
    return [
        Mark(number, state.is_finished(), None if holder is None else [bool(h) for h in has])
        for number, state, holder, *has in rows
    ]


def insert_values(storage: RDBStorage, trial_id: int, values: Mapping[int, float]) -> None:
    """Insert finite intermediate values of a trial in one statement; known steps are kept."""
    # SQLAlchemy takes ten times as long to load as this package; such a storage has loaded it.
    from optuna.storages._rdb import models
    from optuna.storages._rdb.storage import _create_scoped_session

    model: Any = models.TrialIntermediateValueModel
    finite = model.TrialIntermediateValueType.FINITE
    with _create_scoped_session(storage.scoped_session) as session:
        held: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
        storage.check_trial_is_updatable(trial_id, held.state)
        rows = session.query(model.step).filter(model.trial_id == trial_id)
        known = {step for (step,) in rows}
        session.bulk_insert_mappings(
            model,
            [
                {
                    "trial_id": trial_id,
                    "step": step,
                    "intermediate_value": value,
                    "intermediate_value_type": finite,
                }
                for step, value in values.items()
                if step not in known
            ],
        )
