"""What the study page shows of what was said with the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from test_report import unpack
from wsgi import fetch

from optuna_llm import LLMSampler
from optuna_llm import propose
from optuna_llm import suggest_text
from optuna_llm.dashboard import write_report
from optuna_llm.dashboard._pages import StudyPages
from optuna_llm.models import ReplayModel
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


WORDS = ["apple", "birch", "cedar", "daisy"]


def make_reply(word: str) -> str:
    return write_reply(
        {}, {"text": word}, rationale=f"A {word} is better than what was before it."
    )


def objective(trial: optuna.Trial) -> float:
    return float(len(suggest_text(trial, "text", "oak")))


def run_study(model: Any, n_trials: int, name: str = "trees", **options: Any) -> optuna.Study:
    study = optuna.create_study(study_name=name, sampler=LLMSampler(model=model, **options))
    study.optimize(objective, n_trials=n_trials)
    return study


def open_log(study: optuna.Study, log: Path) -> Any:
    """A function that gets the calls for a trial from the page's server."""
    app = StudyPages(lambda *_: [], study._storage, log_file=log)

    def get(number: int) -> Any:
        status, body = fetch(app, f"/llm/studies/{study._study_id}/calls/{number}")
        assert status == "200 OK"
        return json.loads(body)

    return get


def test_all_calls_for_a_trial_are_shown_and_none_for_another(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    run_study(ScriptedModel(map(make_reply, WORDS)), 3, "other", log_file=log)
    model = ScriptedModel(["What?", make_reply("elm"), make_reply("fir")])
    get = open_log(run_study(model, 3, log_file=log), log)
    assert get(0) == []
    refused, taken = get(1)
    assert refused["reply"] == "What?"
    assert refused["outcome"] not in ("", "proposal")
    assert (taken["reply"], taken["outcome"]) == (make_reply("elm"), "proposal")
    assert [role for role, _ in taken["messages"]][:2] == ["system", "user"]
    assert "oak" in taken["messages"][1][1]
    [last] = get(2)
    assert last["reply"] == make_reply("fir")


def test_a_record_of_replies_is_as_good_as_a_log(tmp_path: Path) -> None:
    record = tmp_path / "replies.jsonl"
    study = run_study(ReplayModel(record, ScriptedModel(map(make_reply, WORDS))), 4)
    get = open_log(study, record)
    for number, word in enumerate(WORDS[:3], start=1):
        [call] = get(number)
        assert call["reply"] == make_reply(word)
        assert call["messages"][0][0] == "system"
    assert get(0) == []


def test_a_reply_made_for_another_trial_is_found(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    study = run_study(ScriptedModel(map(make_reply, WORDS)), 2, log_file=log)
    # As if two workers had shared what was made ahead.
    log.write_text(log.read_text().replace('"trial": 1,', '"trial": 7,'))
    [call] = open_log(study, log)(1)
    assert call["reply"] == make_reply("apple")


def test_a_log_may_grow_break_off_and_be_replaced(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    study = run_study(ScriptedModel(map(make_reply, WORDS)), 3, log_file=tmp_path / "whole")
    first, second = (tmp_path / "whole").read_text().splitlines(keepends=True)
    get = open_log(study, log)
    assert get(1) == []
    log.write_text("{}\n[1]\nnull\n\xff\n" + '{"time": "x", "trial": 1, \n' + first + second[:90])
    assert [call["reply"] for call in get(1)] == [make_reply("apple")]
    assert get(2) == []
    with log.open("a") as file:
        file.write(second[90:])
    assert [call["reply"] for call in get(2)] == [make_reply("birch")]
    log.write_text(second)
    assert get(1) == []
    assert [call["reply"] for call in get(2)] == [make_reply("birch")]


def test_calls_of_an_earlier_study_of_this_name_are_not_its_own(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    study = run_study(ScriptedModel(map(make_reply, WORDS)), 2, log_file=log)
    old = json.loads(log.read_text()) | {"time": "2020-01-01T00:00:00.000+00:00"}
    log.write_text(json.dumps(old) + "\n")
    assert open_log(study, log)(1) == []


def test_keys_in_the_environment_are_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "calls.jsonl"
    reply = make_reply("sk-0123456789abcdef")
    study = run_study(ScriptedModel([reply]), 2, log_file=log)
    assert open_log(study, log)(1)[0]["reply"] == reply
    monkeypatch.setenv("MY_API_KEY", "sk-0123456789abcdef")
    [call] = open_log(study, log)(1)
    assert call["reply"] == reply.replace("sk-0123456789abcdef", "***")


def test_a_file_contains_only_the_calls_that_were_asked_for(tmp_path: Path) -> None:
    log, path = tmp_path / "calls.jsonl", tmp_path / "report.html"
    study = run_study(ScriptedModel(map(make_reply, WORDS)), 4, log_file=log)
    write_report(study, path)
    assert unpack(path.read_text(), 'calls" data-number="[0-9]+') == []
    write_report(study, path, log_file=log, log_trials=[2, 2])
    [[call]] = unpack(path.read_text(), 'calls" data-number="2')
    assert call["reply"] == make_reply("birch")
    write_report(study, path, log_file=log)
    assert len(unpack(path.read_text(), 'calls" data-number="[0-9]+')) == 3
    with pytest.raises(ValueError, match="The study has no trial 9"):
        write_report(study, path, log_file=log, log_trials=[9])
    with pytest.raises(ValueError, match="log_trials needs log_file"):
        write_report(study, path, log_trials=[1])
    with pytest.raises(FileNotFoundError):
        write_report(study, path, log_file=tmp_path / "absent")


def test_without_a_log_no_calls_are_served(tmp_path: Path) -> None:
    study = run_study(ScriptedModel(map(make_reply, WORDS)), 2, log_file=tmp_path / "log")
    app = StudyPages(lambda *_: [], study._storage)
    assert fetch(app, f"/llm/studies/{study._study_id}/calls/1")[0] == "404 Not Found"
    propose(study, {"text": "yew"})
    get = open_log(study, tmp_path / "log")
    assert get(2) == []
