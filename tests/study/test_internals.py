"""What this package relies on in Optuna without a promise of Optuna's: each fails loudly."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
from datetime import datetime
from datetime import timedelta
from pathlib import Path
import re
import sqlite3

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.storages import RDBStorage
from optuna.trial import FixedTrial
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import optuna_dashboard
import pytest
import sqlalchemy

import optuna_llm
from optuna_llm._study import internals
from optuna_llm._study.database import find_marks
from optuna_llm._study.database import Mark


def ask(study: optuna.Study) -> tuple[optuna.Trial, FrozenTrial]:
    """A running trial, and what Optuna hands to samplers of it."""
    trial = study.ask()
    return trial, trial._cached_frozen_trial


def test_a_study_filtered_by_hyperband_knows_the_whole_one() -> None:
    seen = []

    class Sampler(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):  # type: ignore[no-untyped-def]
            seen.append(study)
            return super().sample_independent(study, trial, name, distribution)

    pruner = optuna.pruners.HyperbandPruner(max_resource=9)
    study = optuna.create_study(sampler=Sampler(), pruner=pruner)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    assert seen[-1] is not study
    assert internals.find_whole_study(seen[-1]) is study
    assert internals.find_whole_study(study) is study


def test_a_trial_knows_its_sampler_however_often_it_is_wrapped() -> None:
    inner = optuna.samplers.RandomSampler()
    once = optuna.samplers.PartialFixedSampler({"x": 1.0}, inner)
    twice = optuna.samplers.PartialFixedSampler({"y": 1.0}, once)
    for sampler in (inner, once, twice):
        trial, _ = ask(optuna.create_study(sampler=sampler))
        assert internals.find_sampler(trial) is inner


def test_a_scratch_study_is_made_without_a_word(logs: pytest.LogCaptureFixture) -> None:
    study = internals.create_scratch_study([optuna.study.StudyDirection.MAXIMIZE])
    assert "created" not in logs.text
    optuna.create_study()
    assert "created" in logs.text
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE


def test_a_running_trial_can_be_given_a_value() -> None:
    trial, _ = ask(optuna.create_study())
    internals.fix_param(trial, "x", 0.25)
    assert trial.suggest_float("x", 0, 1) == 0.25
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.75})
    trial, _ = ask(study)
    internals.fix_param(trial, "x", 0.25)
    assert trial.suggest_float("x", 0, 1) == 0.75


def test_a_study_knows_its_storage_and_its_id_there() -> None:
    study = optuna.create_study(study_name="s")
    storage, study_id = internals.find_storage(study)
    assert storage.get_study_name_from_id(study_id) == "s"


def test_a_storage_of_mlflow_is_refused_and_no_other() -> None:
    # tests/engines/test_mlflow.py does so with the real one.
    named = type("MlflowStorage", (InMemoryStorage,), {"__module__": "mlflow.optuna.storage"})
    internals.check_storage(optuna.create_study())
    with pytest.raises(ValueError, match="MlflowStorage cuts what is stored"):
        internals.check_storage(optuna.create_study(storage=named()))


def test_a_trial_is_found_behind_an_object_that_passes_on_to_it() -> None:
    class Wrapper:
        def __init__(self, trial: optuna.Trial) -> None:
            self.trial = trial

        def __getattr__(self, name: str) -> object:
            return getattr(self.trial, name)

    trial = optuna.create_study().ask()
    assert internals.unwrap_trial(trial) is trial
    assert internals.unwrap_trial(Wrapper(trial)) is trial  # type: ignore[arg-type]
    fixed = FixedTrial({})
    assert internals.unwrap_trial(fixed) is fixed


def test_a_trial_knows_its_id_in_the_storage() -> None:
    study = optuna.create_study()
    trial, frozen = ask(study)
    storage, _ = internals.find_storage(study)
    assert storage.get_trial(internals.find_trial_id(frozen)).number == trial.number


def test_the_first_read_of_a_trial_is_shared_and_the_next_trial_reads_anew() -> None:
    study = optuna.create_study()
    study.ask()
    first = internals.read_trials(study)
    assert internals.read_trials(study) is first
    study.ask()
    assert len(internals.read_trials(study)) == 2


def count_reads(study: optuna.Study, function: Callable[[], object]) -> int:
    """How often a function has Optuna read trials from a database."""
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    storage, _ = internals.find_storage(study)
    engine = storage._backend.engine  # type: ignore[attr-defined]
    sqlalchemy.event.listen(engine, "before_cursor_execute", note)
    function()
    sqlalchemy.event.remove(engine, "before_cursor_execute", note)
    # One of the statements of each read, and of nothing else here.
    return sum("FROM trial_intermediate_values" in statement for statement in statements)


def open_finished(tmp_path: Path) -> optuna.Study:
    """A study in a database, of a finished trial."""
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
    return study


def test_what_was_read_to_begin_a_trial_is_taken_again(tmp_path: Path) -> None:
    study = open_finished(tmp_path)
    _, frozen = ask(study)
    assert count_reads(study, lambda: internals.read_trials(study, frozen.datetime_start)) == 0
    kept = internals.read_trials(study)
    assert [t.state for t in kept] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert kept == study.get_trials()


def test_a_trial_that_began_long_ago_reads_anew(tmp_path: Path) -> None:
    study = open_finished(tmp_path)
    ask(study)
    long_ago = datetime.now() - timedelta(seconds=10)
    assert count_reads(study, lambda: internals.read_trials(study, long_ago)) == 1


def test_while_nothing_has_finished_a_trial_reads_anew(tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db")
    _, frozen = ask(study)
    assert count_reads(study, lambda: internals.read_trials(study, frozen.datetime_start)) == 1


def test_of_kept_trials_none_stands_in_another_ones_place(tmp_path: Path) -> None:
    study = open_finished(tmp_path)
    other = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    storage, _ = internals.find_storage(study)

    class Storage(type(storage)):  # type: ignore[misc]
        """Another worker begins a trial between the read and the begin of the own."""

        def create_new_trial(self, *args: object) -> object:
            other.ask()
            return super().create_new_trial(*args)

    storage.__class__ = Storage
    trial, frozen = ask(study)
    assert trial.number == 2
    assert [t.number for t in internals.read_trials(study, frozen.datetime_start)] == [0]
    assert len(study.get_trials()) == 3


def test_a_database_finds_marks_in_attributes_without_a_read(tmp_path: Path) -> None:
    study = open_finished(tmp_path)
    marked, plain, ended, late = (study.ask() for _ in range(4))
    marked.set_user_attr("a", {"b": "c_d"})
    plain.set_user_attr("a", {"b": "cxd"})
    study.tell(ended, 1.0)

    def find() -> object:
        return find_marks(study, "a", ["c_d", '"b":'], unfinished=[1, 2, 3], n_known=4)

    assert count_reads(study, find) == 0
    assert find() == [
        Mark(1, False, [True, True]),
        Mark(2, False, [False, True]),
        Mark(3, True, None),
        Mark(late.number, False, None),
    ]


def test_other_storages_find_no_marks() -> None:
    study = optuna.create_study()
    study.ask()
    assert find_marks(study, "a", ["b"], unfinished=[0], n_known=1) is None


def test_what_a_sampler_writes_is_seen_by_the_objective_and_by_others(tmp_path: Path) -> None:
    # The one place where a trial that Optuna hands over is changed: without it, the objective
    # would not see in trial.user_attrs what the storage holds.
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db")
    trial, frozen = ask(study)
    internals.write_trial_attributes(study, frozen, {"a": 1})
    assert trial.user_attrs == {"a": 1}
    assert study.get_trials()[0].user_attrs == {"a": 1}


def test_what_before_trial_has_stored_is_in_the_copy_only() -> None:
    study = optuna.create_study()
    _, frozen = ask(study)
    storage, _ = internals.find_storage(study)
    storage.set_trial_system_attr(frozen._trial_id, "key", 7)
    assert internals.copy_with_fresh_system_attrs(study, frozen).system_attrs["key"] == 7
    assert "key" not in frozen.system_attrs


def test_enqueued_parameters_are_known_before_the_objective_asks() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.5})
    study.enqueue_trial({})
    trial, frozen = ask(study)
    assert internals.read_fixed_params(frozen) == {"x": 0.5}
    assert internals.read_given_params(trial) == {"x": 0.5}
    assert internals.read_fixed_params(ask(study)[1]) == {}
    trial, frozen = ask(study)
    assert internals.read_fixed_params(frozen) is None
    assert internals.read_given_params(trial) == {}


def test_an_enqueued_trial_is_the_one_of_the_number_that_is_told() -> None:
    study = optuna.create_study()
    study.ask()
    assert internals.enqueue_trial(study, {"x": 0.5}, {"key": 7}) == 1
    trial, frozen = ask(study)
    assert frozen.number == 1
    assert trial.suggest_float("x", 0, 1) == 0.5
    assert frozen.user_attrs == {"key": 7}


def test_a_fixed_trial_holds_parameters_that_nobody_has_asked_for() -> None:
    assert internals.read_given_params(FixedTrial({"x": 1, "code": "a"}))["code"] == "a"


def test_a_retried_trial_names_the_one_that_failed() -> None:
    study = optuna.create_study()
    trial = study.ask()
    study.tell(trial, state=TrialState.FAIL)
    # Its former name ends with Optuna 6.
    name = "RetryHeartbeatStaleTrialCallback"
    retry = getattr(optuna.storages, name, None) or optuna.storages.RetryFailedTrialCallback
    retry()(study, study.trials[0])
    assert internals.read_failed_trial(ask(study)[1]) == 0
    assert internals.read_failed_trial(ask(study)[1]) is None


def test_constraints_are_read_however_they_were_set() -> None:
    study = optuna.create_study()
    trial = study.ask()
    if hasattr(trial, "set_constraint"):
        trial.set_constraint("weight", 2.0)
    else:
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [2.0])
    study.tell(trial, 1.0)
    assert list(internals.read_constraints(study.trials[0]).values()) == [2.0]
    assert internals.read_constraints(optuna.create_trial(value=1.0)) == {}


def test_a_stopping_study_says_so() -> None:
    study = optuna.create_study()
    said = []

    def objective(trial: optuna.Trial) -> float:
        said.append(internals.is_stopping(study))
        study.stop()
        said.append(internals.is_stopping(study))
        return 0.0

    study.optimize(objective, n_trials=3)
    assert said == [False, True]


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("catch", [(), (Exception,)])
@pytest.mark.parametrize(("n_jobs", "n_trials"), [(1, 1), (1, 20), (4, 1), (4, 4), (4, 20)])
def test_optimize_ends_with_the_error_whatever_it_catches(
    n_jobs: int, n_trials: int, catch: tuple[type[Exception], ...], raises: bool
) -> None:
    study = optuna.create_study()
    error = LookupError("no key")

    def objective(trial: optuna.Trial) -> float:
        internals.end_optimize(study, error)
        study.stop()  # As a callback of another thread may do now.
        if raises:
            raise error
        return 0.0

    with pytest.raises(LookupError, match="no key"):
        study.optimize(objective, n_trials=n_trials, n_jobs=n_jobs, catch=catch)
    assert 1 <= len(study.trials) <= min(n_trials, 2 * n_jobs)
    assert all(trial.state.is_finished() for trial in study.trials)
    # Nothing of it is left behind.
    study.optimize(lambda trial: 1.0, n_trials=2, n_jobs=n_jobs)
    assert study.trials[-1].value == 1.0


def test_without_optimize_there_is_nothing_to_end() -> None:
    study = optuna.create_study()
    trial = study.ask()
    internals.end_optimize(study, LookupError())
    study.tell(trial, 1.0)
    study.optimize(lambda trial: 0.0, n_trials=1)
    assert len(study.trials) == 2


def test_heartbeats_are_recorded_where_the_storage_has_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=RDBStorage(url, heartbeat_interval=7))
    assert internals.read_heartbeat_interval(study) == 7
    assert internals.read_heartbeat_interval(optuna.create_study()) is None
    with pytest.warns(UserWarning, match="Heartbeat"):
        _, frozen = ask(study)
    internals.record_heartbeat(study, internals.find_trial_id(frozen))
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM trial_heartbeats").fetchone() == (1,)


def test_the_dashboard_keeps_notes_in_the_system_attributes_of_the_study() -> None:
    study = optuna.create_study()
    optuna_dashboard.save_note(study, "A note.")
    assert internals.read_study_system_attrs(study)["dashboard:note_str:0"] == "A note."


def test_a_relative_parameter_that_no_distribution_has_reaches_the_objective() -> None:
    # Texts are handed to the objective beside the numbers of the search space.
    class Sampler(optuna.samplers.RandomSampler):
        def infer_relative_search_space(self, study, trial):  # type: ignore[no-untyped-def]
            return {"x": FloatDistribution(0, 1)}

        def sample_relative(self, study, trial, space):  # type: ignore[no-untyped-def]
            return {"x": 0.5, "llm:text:code": "a"}

    study = optuna.create_study(sampler=Sampler())
    trial = study.ask()
    assert trial.relative_params["llm:text:code"] == "a"
    assert trial.suggest_float("x", 0, 1) == 0.5


def test_no_other_module_knows_a_private_part_of_optuna() -> None:
    private = re.compile(
        r"\bstudy\._\w+|trial\._\w+|\.system_attrs\b|\bstorage\._\w+|distribution\._(?!contains)\w+"
    )
    package = Path(optuna_llm.__file__).parent
    found = [
        f"{path.name}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name not in ("internals.py", "database.py")
        for line in path.read_text().splitlines()
        if private.search(line) and "from optuna_llm" not in line
    ]
    assert found == []
