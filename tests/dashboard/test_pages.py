"""The study pages that the server has beside optuna-dashboard."""

from __future__ import annotations

import json
from typing import Any

import optuna
from optuna.trial import create_trial
import optuna_dashboard
from page_studies import make_large_study
import pytest
from wsgi import fetch

from optuna_llm import Prices
from optuna_llm.dashboard import annotate
from optuna_llm.dashboard._attributes import abridge_attributes
from optuna_llm.dashboard._pages import StudyPages


def serve(study: optuna.Study) -> Any:
    storage = study._storage
    app = abridge_attributes(optuna_dashboard.wsgi(storage), storage)
    return StudyPages(app, storage, Prices(1, 1))


def test_the_page_loads_its_parts_from_its_own_server() -> None:
    study = make_large_study(3)
    app = serve(study)
    page = f"/llm/studies/{study._study_id}"
    status, body = fetch(app, page)
    assert status == "200 OK"
    assert 'src="../page.js"' in body
    for part in ("page.js", "page.css"):
        assert len(fetch(app, f"/llm/{part}")[1]) > 1_000
    loaded = json.loads(fetch(app, f"{page}/data")[1])
    assert len(loaded["trials"]) == 3
    assert fetch(app, f"{page}/data", query=f"since={loaded['version']}") == ("204 No Content", "")
    assert json.loads(fetch(app, f"{page}/trials/2")[1])["texts"]["code"].startswith("def pack")
    assert json.loads(fetch(app, f"{page}/search", query="q=def%20pack")[1]) == [0, 1, 2]
    assert "study_summaries" in fetch(app, "/api/studies")[1]


@pytest.mark.parametrize(
    "path",
    [
        *["", "studies", "studies/", "studies/x", "studies/999", "studies/0/trials/3"],
        *["studies/0/trials", "studies/0/trials/x", "studies/0/else", "studies/0/search"],
        *["LICENSES.txt", "../page.js", "assets/page.js", "studies/0/data/x", "studies/0/"],
    ],
)
def test_there_is_nothing_else(path: str) -> None:
    study = make_large_study(3)
    assert study._study_id == 0
    assert fetch(serve(study), f"/llm/{path}")[0] == "404 Not Found"


def test_a_study_that_is_deleted_is_gone() -> None:
    study = make_large_study(1)
    app = serve(study)
    assert fetch(app, "/llm/studies/0/data")[0] == "200 OK"
    study._storage.delete_study(0)
    assert fetch(app, "/llm/studies/0/data")[0] == "404 Not Found"


def test_answers_allow_nothing_from_elsewhere() -> None:
    begun: list[Any] = []
    environ = {"PATH_INFO": "/llm/studies/0", "REQUEST_METHOD": "GET"}
    list(serve(make_large_study(1))(environ, lambda *args: begun.append(args)))
    headers = dict(begun[0][1])
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_notes_in_the_dashboard_link_to_the_page() -> None:
    study = make_large_study(2)
    annotate(study)
    optuna_dashboard.save_note(study, "My own words.")
    study.add_trial(create_trial(state=optuna.trial.TrialState.FAIL))
    shown = json.loads(fetch(serve(study), "/api/studies/0")[1])
    assert shown["note"]["body"] == "My own words."
    notes = [trial["note"]["body"] for trial in shown["trials"]]
    for number, note in enumerate(notes):
        assert f"(/llm/studies/0#trial={number})" in note
    assert notes[0].startswith("[//]: # (Written by optuna_llm")
    assert notes[0].endswith("[//]: # (end)")
    assert notes[2] == "[Trial 2 on the study page](/llm/studies/0#trial=2)"
    kept = optuna_dashboard.get_note(study)
    assert kept == "My own words."
