"""What the server adds to optuna-dashboard: a check of hosts, and attributes in words."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
import socket
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request
from urllib.request import urlopen

from browser import serve
import optuna
from optuna.trial import create_trial
import optuna_dashboard
import pytest
from wsgi import fetch

from optuna_llm import report_case
from optuna_llm.dashboard import run
from optuna_llm.dashboard._attributes import abridge_attributes
from optuna_llm.dashboard._hosts import check_host
from optuna_llm.dashboard._hosts import find_hosts


def app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"studies"]


def ask(requested: str | None, host: str = "127.0.0.1", allowed: Sequence[str] = ()) -> str:
    """The status of a request to a server that listens at a host."""
    return fetch(check_host(app, host, find_hosts(host, allowed)), "/", requested)[0]


@pytest.mark.parametrize(
    ("requested", "host", "allowed"),
    [
        ("localhost:8080", "127.0.0.1", ()),
        ("LOCALHOST.", "127.0.0.1", ()),
        ("study.localhost", "127.0.0.1", ()),
        ("127.0.0.1:8080", "127.0.0.1", ()),
        ("127.0.0.2", "localhost", ()),
        ("[::1]:8080", "::1", ()),
        ("tower:8080", "tower", ()),
        ("192.168.1.5:8080", "192.168.1.5", ()),
        ("192.168.1.5:8080", "0.0.0.0", ()),
        ("[fe80::1]", "::", ()),
        ("proxy.example.com", "127.0.0.1", ["a.example.com", "Proxy.example.com:443"]),
    ],
)
def test_requests_to_this_machine_or_an_allowed_host_are_answered(
    requested: str, host: str, allowed: Sequence[str]
) -> None:
    assert ask(requested, host, allowed) == "200 OK"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::", ""])
@pytest.mark.parametrize(
    "requested",
    [
        *["evil.example.com", "evil.example.com:8080", "localhost.evil.com", "127.0.0.1.nip.io"],
        *[
            "localhost@evil.com",
            "localhost, evil.com",
            "localhost:80:evil.com",
            "evil.com/localhost",
        ],
        *["127.0.0.1 evil.com", "[evil.com]", "localhost\\evil.com", "0x7f.1", "2130706433"],
        *["", ".", ":8080", "example.com", None],
    ],
)
def test_requests_to_other_hosts_are_refused(requested: str | None, host: str) -> None:
    assert ask(requested, host, ["a.example.com"]) == "403 Forbidden"


def test_an_address_that_the_server_does_not_listen_at_is_refused() -> None:
    assert ask("192.168.1.5", "127.0.0.1") == "403 Forbidden"


def test_a_refusal_says_how_to_allow_the_host() -> None:
    checked = check_host(app, "127.0.0.1", find_hosts("127.0.0.1", ()))
    _, words = fetch(checked, "/", "Tower.example.com:8080")
    assert "does not answer requests to the host 'Tower.example.com:8080'" in words
    assert "allowed_hosts=['tower.example.com']" in words


def test_hosts_that_cannot_be_allowed_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"must be a list of names: \['a.example.com'\]"):
        run("sqlite://", allowed_hosts="a.example.com")
    with pytest.raises(ValueError, match=r"'https://a.example.com', which is no host name"):
        run("sqlite://", allowed_hosts=["https://a.example.com"])


def test_a_taken_port_is_an_error_at_once(tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(OSError, match="in use"):
        run(f"sqlite:///{tmp_path}/s.db", port=taken.getsockname()[1])


@pytest.mark.slow
def test_the_server_refuses_what_another_website_sends_to_it(tmp_path: Path) -> None:
    with serve(f"sqlite:///{tmp_path}/study.db") as url:
        api = url.replace("/dashboard", "/api/studies")
        with urlopen(api) as answer:
            assert json.load(answer)["study_summaries"] == []
        rebound = Request(api, headers={"Host": "evil.example.com"})
        with pytest.raises(HTTPError, match="403") as refused:
            urlopen(rebound)
        refused.value.close()


def show(study: optuna.Study) -> Any:
    """The study as the dashboard's pages get it."""
    dashboard = abridge_attributes(optuna_dashboard.wsgi(study._storage), study._storage)
    status, body = fetch(dashboard, f"/api/studies/{study._study_id}")
    assert status == "200 OK"
    return json.loads(body)


def list_attributes(shown: Any) -> dict[str, str]:
    return {attribute["key"]: attribute["value"] for attribute in shown["user_attrs"]}


def test_pages_get_long_attributes_cut_and_downloads_have_them_whole() -> None:
    study = optuna.create_study()
    text = "x = 字\n" * 100
    study.add_trial(create_trial(value=1, user_attrs={"code": text, "short": "y" * 100}))
    study.set_user_attr("llm:task", text)
    shown = show(study)
    cut = text[:60] + " [… 600 characters]"
    for trial in (*shown["trials"], *shown["best_trials"]):
        assert list_attributes(trial) == {"code": cut, "short": "y" * 100}
    assert list_attributes(shown) == {"llm:task": cut}
    dashboard = abridge_attributes(optuna_dashboard.wsgi(study._storage), study._storage)
    assert fetch(dashboard, "/api/studies/99")[0].startswith("404")
    assert "study_summaries" in fetch(dashboard, "/api/studies")[1]
    assert text in fetch(dashboard, f"/csv/{study._study_id}")[1]


def test_pages_get_learning_curves_but_not_the_scores_of_cases() -> None:
    study = optuna.create_study()

    def report(steps: int, *, cases: bool) -> None:
        trial = study.ask()
        for step in range(steps):
            if cases:
                report_case(trial, step, 0.5)
            else:
                trial.report(0.5, step)
        study.tell(trial, 0.5)

    report(3, cases=True)
    assert [len(trial.intermediate_values) for trial in study.trials] == [3]
    shown = show(study)
    assert not shown["has_intermediate_values"]
    assert [trial["intermediate_values"] for trial in shown["trials"]] == [[]]
    assert [trial["intermediate_values"] for trial in shown["best_trials"]] == [[]]
    report(2, cases=False)
    shown = show(study)
    assert shown["has_intermediate_values"]
    assert [len(trial["intermediate_values"]) for trial in shown["trials"]] == [0, 2]


def test_pages_get_objects_in_words() -> None:
    study = optuna.create_study()
    usage = {"calls": 2, "prompt_tokens": 1_000, "completion_tokens": 100}
    proposal = {"source": "model", "model": "gpt-x", "parent": 3, "rationale": "y" * 2_000}
    attributes = {
        "llm:proposal": proposal | usage | {"texts": {"code": 1, "prompt": 1}},
        **{"code": "a", "prompt": "b"},
    }
    study.add_trial(create_trial(value=1, user_attrs=attributes))
    study.set_user_attr("llm:unclaimed:a", {"gpt-x": usage, "gpt-y": usage})
    study.set_user_attr("llm:adaptations", {"gpt-x": {"temperature": "is left out"}})
    study.set_user_attr("llm:text:code", {"description": "Defines f.", "language": "python"})
    study.set_user_attr("llm:text:bad", ["?"])
    shown = show(study)
    assert list_attributes(shown["trials"][0]) == {
        "llm:proposal": "model, gpt-x, from trial 3, 2 calls, 1,100 tokens",
        **{"code": "a", "prompt": "b"},
    }
    assert list_attributes(shown) == {
        "llm:unclaimed:a": "4 calls, 2,200 tokens",
        "llm:adaptations": "gpt-x: temperature is left out",
        "llm:text:code": "python: Defines f.",
        "llm:text:bad": '["?"]',
    }
