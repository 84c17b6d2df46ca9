"""Weights & Biases, by the callback of optuna-integration, without a server."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import struct
from typing import Any

import optuna
from pages import run_page
import pytest

from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


wandb = pytest.importorskip("wandb", reason="wandb is not installed")
integration = pytest.importorskip(
    "optuna_integration", reason="optuna-integration is not installed"
)

pytestmark = [
    pytest.mark.slow,  # It starts a process that writes.
    # The callback is deprecated, and W&B warns of its own dependencies.
    pytest.mark.filterwarnings("ignore"),
]

LONG = "x = '字😀'\n" * 10_000


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    end_writing()


def end_writing() -> None:
    """End the run and the process that writes it, which also keeps the folder of a test."""
    wandb.finish()
    wandb.teardown()


def read_records(path: Path) -> Iterator[Any]:
    """The records of an offline run: a log of blocks of 32 KiB, as LevelDB writes it."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, record = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (left := 32_768 - position % 32_768) < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        record += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # Whole, or the last part of one.
            yield Record.FromString(record)
            record = b""


def read_run(path: Path) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """An offline run's configuration, and what was logged at each step."""
    config: dict[str, Any] = {}
    history: dict[int, dict[str, Any]] = {}
    for record in read_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "config":
            config |= {item.key: json.loads(item.value_json) for item in record.config.update}
        elif kind == "history":
            items = record.history.item
            logged = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in items}
            history[record.history.step.num] = logged
    return config, history


def read_runs() -> list[tuple[dict[str, Any], dict[int, dict[str, Any]]]]:
    runs = [read_run(path) for path in Path("wandb").glob("offline-run-*/*.wandb")]
    return sorted(runs, key=lambda run: max(run[1], default=0))


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 10)
    code = suggest_text(trial, "code", "y = 1", language="python")
    wandb.config.update({"code": code}, allow_val_change=True)
    if "fail" in code:
        raise ValueError("It fails.")
    return x


REPLIES = [
    write_reply({"x": 1}, {"code": "fail"}),
    write_reply({"x": 2}, {"code": LONG}),
]


def optimize(tracker: Any) -> optuna.Study:
    study = optuna.create_study(sampler=LLMSampler("Go.", model=ScriptedModel(REPLIES)))
    tracked = tracker.track_in_wandb()(objective)
    study.optimize(tracked, n_trials=3, catch=Exception, callbacks=[tracker])
    end_writing()
    return study


def test_each_trial_is_a_run_with_its_whole_text() -> None:
    study = optimize(integration.WeightsAndBiasesCallback("loss", as_multirun=True))
    first, failed, long = read_runs()
    x = study.trials[0].params["x"]
    assert first[0] == {"code": "y = 1", "x": x, "direction": ["MINIMIZE"]}
    assert first[1][0].items() >= {"x": x, "loss": x}.items()
    assert failed[0]["code"] == "fail"
    assert "loss" not in failed[1][1]
    assert long[0]["code"] == LONG
    assert long[1][2]["loss"] == 2


def test_a_whole_study_is_one_run() -> None:
    optimize(integration.WeightsAndBiasesCallback("loss"))
    ((config, history),) = read_runs()
    assert config["code"] == LONG
    assert [logged.get("loss") for logged in history.values()][1:] == [None, 2]


def test_the_page_on_trackers_keeps_texts_reasons_and_values() -> None:
    study = run_page("docs/tracking.md", "wandb")["study"]
    end_writing()
    runs = read_runs()
    assert len(runs) == len(study.trials) == 3
    for trial, (config, history) in zip(study.trials, runs, strict=True):
        logged = history[trial.number]
        assert (logged["value"] if "value" in logged else logged["loss"]) == trial.value
        assert logged["length"] == len(config["code"])
        assert config["code"] == trial.user_attrs["code"]
        told = trial.user_attrs["llm:proposal"]
        assert config["rationale"] == told.get("rationale", "")
