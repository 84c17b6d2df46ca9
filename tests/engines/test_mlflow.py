"""MLflow, by the callback of optuna-integration and a database of MLflow's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from pages import run_page
import pytest

from optuna_llm import explain_failures
from optuna_llm import LLMSampler
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
integration = pytest.importorskip(
    "optuna_integration", reason="optuna-integration is not installed"
)

pytestmark = [
    pytest.mark.slow,  # It takes seconds to make the tables.
    # The callback is deprecated, and MLflow warns of its own dependencies.
    pytest.mark.filterwarnings("ignore"),
]

LONG = "x = '字😀'\n" * 10_000


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty database, with artifacts beside it."""
    monkeypatch.chdir(tmp_path)
    yield f"sqlite:///{tmp_path}/mlflow.db"
    while mlflow.active_run():
        mlflow.end_run()


def read_runs(name: str) -> list[Any]:
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id])
    return sorted(runs, key=lambda run: int(run.data.tags["number"]))


@explain_failures
def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 10)
    kind = trial.suggest_categorical("kind", ["a", "b", None])
    code = suggest_text(trial, "code", "y = 1", description="Any program.", language="python")
    if "fail" in code:
        raise ValueError("It fails.")
    report_feedback(trial, f"{len(code)} characters of kind {kind}: 字😀")
    return x


REPLIES = [
    write_reply({"x": 1, "kind": "b"}, {"code": "y = 2"}, "Two."),
    write_reply({"x": 2, "kind": None}, {"code": "fail"}, "Three."),
    write_reply({"x": 3, "kind": "a"}, {"code": LONG}, "Long."),
]


def test_values_numbers_texts_and_reasons_of_a_study_are_in_its_runs(address: str) -> None:
    tracker = integration.MLflowCallback(address, metric_name="loss", tag_study_user_attrs=True)
    sampler = LLMSampler("Go down.", model=ScriptedModel(REPLIES))
    study = optuna.create_study(study_name="tracked", sampler=sampler)
    study.optimize(objective, n_trials=4, catch=Exception, callbacks=[tracker])
    first, second, failed, long = read_runs("tracked")
    assert first.data.tags["code"] == "y = 1"
    assert second.data.metrics == {"loss": 1.0}
    assert second.data.params == {"x": "1.0", "kind": "b"}
    assert second.data.tags["code"] == "y = 2"
    assert second.data.tags["feedback"] == "5 characters of kind b: 字😀"
    assert "'rationale': 'Two.'" in second.data.tags["llm:proposal"]
    assert second.data.tags["llm:task"] == "Go down."
    assert (failed.data.metrics, failed.data.tags["state"]) == ({}, "FAIL")
    assert "ValueError: It fails." in failed.data.tags["feedback"]
    # As the documentation says: the beginning of each piece.
    assert long.data.tags["code"] == f"{study.trials[3].user_attrs['code'][:7_997]}..."


def test_a_storage_that_would_cut_texts_is_refused_before_anything_is_stored(
    address: str,
) -> None:
    from mlflow.optuna.storage import MlflowStorage

    mlflow.set_tracking_uri(address)
    storage = MlflowStorage(mlflow.create_experiment("kept"))
    for sampler in (LLMSampler(model="offline"), optuna.samplers.RandomSampler()):
        study = optuna.create_study(storage=storage, sampler=sampler)
        with pytest.raises(ValueError, match="MlflowStorage cuts what is stored"):
            study.optimize(lambda trial: len(suggest_text(trial, "code", LONG)), n_trials=1)
        assert study.trials[0].user_attrs == {}


def test_the_page_on_trackers_keeps_whole_texts(address: str) -> None:
    names = run_page("docs/tracking.md", "mlflow")
    study = names["study"]
    runs = read_runs(study.study_name)
    assert [run.data.metrics["loss"] for run in runs] == [t.value for t in study.trials]
    for run, trial in zip(runs, study.trials, strict=True):
        text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/code.py")
        assert text == trial.user_attrs["code"]
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("shorten more")
    by_name = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert len(by_name) == 3
    for trial in names["again"].trials:
        folder = by_name[str(trial.number)].info.artifact_uri
        assert mlflow.artifacts.load_text(f"{folder}/code.txt") == trial.user_attrs["code"]
        told = mlflow.artifacts.load_dict(f"{folder}/proposal.json")
        assert told == trial.user_attrs["llm:proposal"]
