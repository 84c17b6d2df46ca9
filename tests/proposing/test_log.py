from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
from typing import Any

import optuna
import pytest

from optuna_llm import Completion
from optuna_llm import LLMSampler
from optuna_llm import ModelError
from optuna_llm import Usage
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_call_is_a_line(tmp_path: Path) -> None:
    replies = [
        "é?",
        Completion(write_reply({"x": 0.5}), "m", Usage(prompt_tokens=7)),
        ModelError("down"),
    ]
    path = tmp_path / "log.jsonl"
    sampler = LLMSampler(model=ScriptedModel(replies), log_file=path)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=3)
    first, second, third = read(path)
    assert first["reply"] == "é?"
    assert first["outcome"] == "there is no <numbers> block with a JSON object."
    assert [m["role"] for m in first["messages"]] == ["system", "user"]
    assert (second["trial"], second["outcome"], second["model"]) == (1, "proposal", "m")
    assert second["usage"]["prompt_tokens"] == 7
    assert second["seconds"] >= 0
    assert (third["trial"], third["reply"], third["outcome"]) == (2, None, "down")


WORKER = """
import optuna
from optuna_llm import LLMSampler
sampler = LLMSampler("T" * 20_000, model="offline", proposers=lambda *_: ["offline"])
study = optuna.create_study(sampler=sampler)
study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=40)
"""


@pytest.mark.slow
def test_the_environment_names_the_file_and_processes_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    monkeypatch.setenv("OPTUNA_LLM_LOG", str(path))
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER], stderr=subprocess.DEVNULL)
        for _ in range(3)
    ]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    lines = read(path)
    assert sum(line["outcome"] == "proposal" for line in lines) == 3 * 39
    assert path.stat().st_mode & 0o077 == 0
