"""The study page as a file, and the data behind it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path
import re
from typing import Any
import zlib

import optuna
from optuna.trial import create_trial
from optuna.trial import TrialState
from page_studies import make_hostile_study
from page_studies import make_large_study
import pytest

from optuna_llm import get_texts
from optuna_llm import Prices
from optuna_llm import report_case
from optuna_llm import usage
from optuna_llm._page.data import PageData
from optuna_llm.dashboard import write_report
from optuna_llm.visualization import show


PRICES = Prices(prompt=2, completion=10, cached=1)
SOURCES = Path(__file__).parents[2] / "frontend" / "src"


def unpack(page: str, kind: str) -> list[Any]:
    """What a page carries in elements of a kind."""
    packed = re.findall(f'<script type="application/octet-stream" class="{kind}">(.*?)<', page)
    return [json.loads(zlib.decompress(base64.b64decode(part, validate=True))) for part in packed]


def read_details(page: str) -> list[Any]:
    return [trial for piece in unpack(page, "details") for trial in piece]


def write(study: optuna.Study, path: Path) -> str:
    write_report(study, path / "report.html", prices=PRICES)
    return (path / "report.html").read_text("ascii")


def load(data: PageData, since: str = "") -> Any:
    changes = data.write_changes(since)
    return changes and json.loads(changes)


def test_a_report_holds_all_of_a_study(tmp_path: Path) -> None:
    study = make_large_study(200)
    page = write(study, tmp_path)
    assert len(page) < 3_000_000
    [packed] = unpack(page, "study")
    details = read_details(page)
    rows = packed["data"]["trials"]
    assert [row["number"] for row in rows] == [d["number"] for d in details] == list(range(200))
    for trial, row, detail in zip(study.trials, rows, details, strict=True):
        assert row["state"] == trial.state.name
        assert row["values"] == trial.values if trial.values else "values" not in row
        assert detail["texts"] == get_texts(trial)
        assert detail["feedback"] == trial.user_attrs["feedback"]
        told = trial.user_attrs["llm:proposal"]
        assert row.get("parent") == told.get("parent")
        assert row["source"] == told["source"]
        assert detail["rationale"] == told.get("rationale", "")
    assert packed["data"]["study"]["facts"] == {"n_trials": 300}
    assert packed["data"]["study"]["texts"]["code"]["language"] == "python"


def test_a_report_runs_its_own_script_only_and_connects_to_nothing(tmp_path: Path) -> None:
    page = write(make_large_study(3), tmp_path)
    found = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert found
    policy = dict(part.strip().split(" ", 1) for part in found[1].split(";"))
    assert policy["default-src"] == policy["connect-src"] == policy["base-uri"] == "'none'"
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[kind] == f"'sha256-{digest}'"
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_nothing_in_a_report_is_html_of_a_study(tmp_path: Path) -> None:
    study = make_hostile_study("http://127.0.0.1:9")
    page = write(study, tmp_path)
    harmless = write(make_large_study(1), tmp_path)
    assert re.findall(r"<[^>]*", strip(page)) == re.findall(r"<[^>]*", strip(harmless))
    assert "127.0.0.1" not in page
    texts = [detail["texts"]["constructor"] for detail in read_details(page)]
    assert texts == [get_texts(trial)["constructor"] for trial in study.trials]
    assert "\ud800" in texts[0]


def strip(page: str) -> str:
    """A page without what its elements of data contain."""
    return re.sub(r'(octet-stream" class="\w+">)[^<]*', r"\1", page)


def test_the_front_end_never_makes_html_of_text() -> None:
    sources = list(SOURCES.glob("*.js"))
    assert len(sources) > 5
    for path in sources:
        makers = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|srcdoc"
        )
        assert not re.search(makers, path.read_text()), path


def test_numbers_that_json_lacks_are_kept() -> None:
    rows = load(PageData(make_hostile_study("http://127.0.0.1:9"), PRICES))["trials"]
    assert rows[2]["values"] == ["inf", "-inf"]
    assert rows[0]["values"] == [1e308, 5e-324]
    assert rows[3]["violation"] == "inf"
    assert rows[0]["params"]["__proto__"] == "inf"
    assert rows[5]["parent"] == 0
    [reported] = {
        json.dumps(PageData(make_hostile_study("x"), PRICES).describe_trial(0)["reported"])
    }
    assert json.loads(reported)[:2] == [[0, "nan"], [1, "inf"]]


def test_a_page_gets_only_what_has_changed() -> None:
    study = optuna.create_study()
    study.add_trials([create_trial(value=value) for value in (1.0, 0.0)])
    data = PageData(study, PRICES)
    first = load(data)
    assert first["whole"]
    assert len(first["trials"]) == 2
    assert load(data, first["version"]) is None
    running = study.ask()
    second = load(data, first["version"])
    assert not second["whole"]
    assert [(row["number"], row["state"]) for row in second["trials"]] == [(2, "RUNNING")]
    running.set_user_attr("feedback", "half done")
    third = load(data, second["version"])
    assert [row["feedback"] for row in third["trials"]] == ["half done"]
    study.tell(running, state=TrialState.FAIL)
    fourth = load(data, third["version"])
    assert [row["state"] for row in fourth["trials"]] == ["FAIL"]
    assert load(data, fourth["version"]) is None
    # A viewer that was away gets all of it at once, and one of a former server the whole study.
    assert [row["state"] for row in load(data, first["version"])["trials"]] == ["FAIL"]
    for unknown in ("", "else-4", "else", f"{first['version']}x", first["version"][:13] + "-1"):
        assert load(data, unknown)["whole"]
        assert len(load(data, unknown)["trials"]) == 3


def test_the_storage_is_read_once_for_many_viewers(monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_large_study(3)
    reads = []
    read = study.get_trials
    monkeypatch.setattr(study, "get_trials", lambda **kwargs: reads.append(1) or read(**kwargs))
    data = PageData(study, PRICES, max_age=3_600)
    version = load(data)["version"]
    assert [load(data, version) for _ in range(20)] == [None] * 20
    assert data.describe_trial(2)["texts"]
    assert len(reads) == 1


def test_a_study_that_changes_tells_its_viewers() -> None:
    study = make_large_study(2)
    data = PageData(study, PRICES)
    version = load(data)["version"]
    study.set_user_attr("llm:facts", {"n_trials": 7})
    changes = load(data, version)
    assert changes["study"]["facts"] == {"n_trials": 7}
    assert changes["trials"] == []


def test_search_finds_words_in_texts_rationales_feedback_and_errors() -> None:
    study = optuna.create_study()
    said = {"code": "def Pack(): pass", "feedback": "too slow"}
    told = {"texts": {"code": 1}, "rationale": "Sort first.", "error": "no reply"}
    study.add_trial(create_trial(value=0, user_attrs={**said, "llm:proposal": told}))
    study.add_trial(create_trial(value=0, user_attrs={"feedback": "slow"}))
    data = PageData(study, PRICES)
    assert data.search("slow") == [0, 1]
    for query in ("pack SLOW", "sort", "reply", "  too   first. "):
        assert data.search(query) == [0]
    assert data.search("absent slow") == []
    with pytest.raises(KeyError):
        data.describe_trial(2)


def test_a_trial_shows_its_cases_with_what_was_said_of_them() -> None:
    study = optuna.create_study()
    trial = study.ask()
    report_case(trial, 0, 0.5, "half right", name="first")
    report_case(trial, 1, 1.0)
    study.tell(trial, 0.75)
    data = PageData(study, PRICES)
    detail = json.loads(json.dumps(data.describe_trial(0)))
    assert detail["reported"] == [[0, 0.5], [1, 1.0]]
    assert detail["cases"] == {"0": "half right", "1": ""}
    assert load(data)["study"]["cases"] == {"0": "first"}


def test_scores_of_cases_come_on_demand_and_once() -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(value=0, intermediate_values={0: 1.0}))
    trial = study.ask()
    report_case(trial, 3, 1 / 3)
    data = PageData(study, PRICES)
    first = load(data)
    assert [row.get("n_cases") for row in first["trials"]] == [None, 1]
    # Intermediate values of a trial without cases are steps of something else.
    assert json.loads(data.write_cases()) == {"trials": [[1, [[3, 0.333333]]]]}
    assert json.loads(data.write_cases(first["version"])) == {"trials": []}
    report_case(trial, 1, 1.0)
    second = load(data, first["version"])
    assert [row["n_cases"] for row in second["trials"]] == [2]
    told = [[1, [[1, 1.0], [3, 0.333333]]]]
    assert json.loads(data.write_cases(first["version"])) == {"trials": told}
    assert json.loads(data.write_cases(second["version"])) == {"trials": []}


def test_the_page_knows_which_parameters_are_logarithmic() -> None:
    study = optuna.create_study()
    study.optimize(lambda t: t.suggest_float("x", 1, 9, log=True) + t.suggest_int("n", 1, 9), 2)
    assert load(PageData(study, PRICES))["study"]["log_params"] == ["x"]


def test_costs_are_those_of_the_usage(tmp_path: Path) -> None:
    study = make_large_study(30)
    spent = usage(study, PRICES)
    [packed] = unpack(write(study, tmp_path), "study")
    rows = packed["data"]["trials"]
    assert math.isclose(sum(row.get("cost") or 0 for row in rows), spent.cost or 0)
    assert sum(row.get("prompt_tokens", 0) for row in rows) == spent.prompt_tokens


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_report(optuna.create_study(), tmp_path / "absent" / "report.html")


def test_a_notebook_shows_the_page_in_a_frame_of_its_own() -> None:
    shown = show(make_hostile_study("x"), prices=PRICES, height=500)._repr_html_()
    assert re.fullmatch(r'<iframe srcdoc="[^"<>]+" sandbox="allow-scripts allow-popups" .*', shown)
    assert 'height="500"' in shown
    with pytest.raises(ValueError, match="height must be 1 or more: 0"):
        show(optuna.create_study(), height=0)
