from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import subprocess
import sys

import optuna
from provenance import only_models
from provenance import told
import pytest

from optuna_llm import Completion
from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelSetupError
from optuna_llm import OfflineModel
from optuna_llm import suggest_text
from optuna_llm import Usage
from optuna_llm.models import _replay
from optuna_llm.models import ReplayModel
from optuna_llm.testing import ScriptedModel


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -9, 9) ** 2 + len(suggest_text(trial, "code", "1.5 + 2"))


def ask(text: str) -> tuple[Message, Message]:
    return Message("system", "s"), Message("user", text)


def run(model: ReplayModel, n_trials: int = 12) -> list[tuple[object, ...]]:
    sampler = LLMSampler(model=model, seed=0, proposers=only_models)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials)
    return [
        (
            t.params,
            get_texts(t),
            t.value,
            told(t, "prompt_tokens"),
        )
        for t in study.trials
    ]


def test_a_study_runs_again_to_the_letter_without_the_model(tmp_path: Path) -> None:
    offline = OfflineModel(0)

    def answer(messages: object) -> Completion:
        text = offline.complete(messages).text  # type: ignore[arg-type]
        return Completion(text, "m", Usage(prompt_tokens=len(model.calls)))

    model = ScriptedModel(answer)
    path = tmp_path / "replies.jsonl"
    first = run(ReplayModel(path, model))
    calls = len(model.calls)
    assert calls >= 11
    assert run(ReplayModel(path)) == first
    assert run(ReplayModel(path, model)) == first
    assert len(model.calls) == calls


def test_what_was_not_recorded_ends_a_replay(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    run(ReplayModel(path, "offline"), n_trials=3)
    with pytest.raises(ModelSetupError, match=r"replies\.jsonl holds no reply to these messages"):
        ReplayModel(path).complete(ask("never asked"))


def test_nothing_to_replay_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist: name a model"):
        ReplayModel(tmp_path / "replies.jsonl")


def test_threads_get_one_reply_to_one_question(tmp_path: Path) -> None:
    counter = iter(range(10**6))
    model = ReplayModel(
        tmp_path / "replies.jsonl", ScriptedModel(lambda _: f"reply {next(counter)}")
    )
    questions = [ask(str(i % 5)) for i in range(60)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(model.complete, questions))
    assert len({reply.text for reply in replies}) == 5
    again = [ReplayModel(tmp_path / "replies.jsonl").complete(q).text for q in questions]
    assert again == [reply.text for reply in replies]


WORKER = """
import os, sys
from optuna_llm import Message
from optuna_llm.models import ReplayModel
model = ReplayModel({path!r}, lambda messages: f"{{messages[1].content}} by {{os.getpid()}}")
for i in range(40):
    print(model.complete((Message("system", ""), Message("user", str(i)))).text)
"""


@pytest.mark.slow
def test_processes_get_one_reply_to_one_question(tmp_path: Path) -> None:
    script = WORKER.format(path=str(tmp_path / "replies.jsonl"))
    workers = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(3)
    ]
    outputs = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert len(set(outputs)) == 1
    assert len(outputs[0].splitlines()) == 40


def test_a_reply_is_used_even_if_it_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: pytest.LogCaptureFixture
) -> None:
    model = ReplayModel(tmp_path / "replies.jsonl", lambda _: "a reply")

    def fail(*arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(_replay, "append_line", fail)
    messages = (Message("system", "s"), Message("user", "u"))
    assert [model.complete(messages).text for _ in range(2)] == ["a reply"] * 2
    assert logs.text.count("No space left on device") == 1


def test_a_line_that_was_cut_short_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    answer = ReplayModel(path, lambda _: "first").complete(ask("q"))
    path.write_bytes(path.read_bytes()[:-20])
    model = ReplayModel(path, lambda _: "second")
    assert answer.text == "first"
    assert [model.complete(ask(q)).text for q in ("q", "q", "other", "other")] == ["second"] * 4
    assert ReplayModel(path).complete(ask("other")).text == "second"
