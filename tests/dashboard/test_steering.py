"""Steering a study from its page: who may, and what comes of it."""

from __future__ import annotations

import io
import json
from typing import Any

import optuna
import pytest

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import Prices
from optuna_llm import suggest_text
from optuna_llm._page.data import PageData
from optuna_llm._study.declarations import write_stop
from optuna_llm.dashboard._pages import StudyPages


HOST = "127.0.0.1:8080"
VALUES = {"words": "Hi <b>", "x": "7", "kind": "b"}
ALLOWED = {
    "HTTP_HOST": HOST,
    "HTTP_ORIGIN": f"http://{HOST}",
    "HTTP_X_STEERING_TOKEN": "secret",
    "CONTENT_TYPE": "application/json",
}


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_int("x", 0, 9)
    trial.suggest_categorical("kind", ["a", "b"])
    return x + len(suggest_text(trial, "words", "Hello\n"))


def make_study() -> optuna.Study:
    study = optuna.create_study(sampler=LLMSampler("Be brief.", model="offline", seed=0))
    study.optimize(objective, n_trials=2)
    return study


def post(
    study: optuna.Study, action: str, body: object, *, token: str = "secret", **changes: str
) -> tuple[str, Any]:
    """Status and answer of a request to steer a study."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    environ = {
        "PATH_INFO": f"/llm/studies/{study._study_id}/{action}",
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(content)),
        "wsgi.input": io.BytesIO(content),
        **ALLOWED,
        **changes,
    }
    begun: list[Any] = []
    app = StudyPages(lambda *_: [], study._storage, token=token)
    answer = b"".join(app(environ, lambda *args: begun.append(args)))
    is_json = dict(begun[0][1])["Content-Type"] == "application/json"
    return begun[0][0], json.loads(answer) if is_json else answer.decode()


def test_an_enqueued_trial_has_the_values_of_its_form() -> None:
    study = make_study()
    status, said = post(study, "enqueue", {"values": VALUES, "parent": 0})
    assert (status, said["done"][:20]) == ("200 OK", "Enqueued as trial 2:")
    study.optimize(objective, n_trials=1)
    last = study.trials[-1]
    assert last.params == {"x": 7, "kind": "b"}
    assert get_texts(last) == {"words": VALUES["words"]}
    told = last.user_attrs["llm:proposal"]
    assert (told["source"], told["parent"]) == ("user", 0)
    status, said = post(study, "enqueue", {"values": VALUES})
    assert "trial 2 has these values already" in said["reason"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (VALUES | {"x": "70"}, "must be int from 0 to 9"),
        (VALUES | {"x": None}, "must be int from 0 to 9"),
        (VALUES | {"kind": "c"}, "must be one of"),
        (VALUES | {"words": 3}, "words"),
        (VALUES | {"llm:proposal": "x"}, 'no number parameter "llm:proposal"'),
        ({"words": "Hi"}, "lacks"),
        ({}, "lacks"),
        ("words", "no values"),
    ],
)
def test_values_that_cannot_be_tried_are_refused_with_the_reason(
    values: object, reason: str
) -> None:
    study = make_study()
    status, said = post(study, "enqueue", {"values": values})
    assert status == "403 Forbidden"
    assert reason in said["reason"]
    assert len(study.trials) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_X_STEERING_TOKEN": "other"},
        {"HTTP_X_STEERING_TOKEN": ""},
        {"HTTP_X_STEERING_TOKEN": "secr\udce9t"},
        {"HTTP_ORIGIN": "http://evil.example.com"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": ""},
        {"HTTP_ORIGIN": "http://127.0.0.1:9090"},
        {"HTTP_ORIGIN": f"http://{HOST}.evil.com"},
        {"HTTP_ORIGIN": f"http://{HOST}@evil.com"},
        {"CONTENT_TYPE": "text/plain"},
        {"CONTENT_TYPE": "application/x-www-form-urlencoded"},
        {"CONTENT_LENGTH": "9000000"},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "2"},
        {"PATH_INFO": "/llm/studies/99/stop"},
        {"PATH_INFO": "/llm/studies/0/else"},
        {"PATH_INFO": "/llm/studies/0"},
    ],
)
def test_nobody_else_changes_a_study(changes: dict[str, str]) -> None:
    study = make_study()
    before = (study.user_attrs, len(study.trials))
    status, said = post(study, "stop", [1], **changes)
    assert status[:3] in ("403", "404")
    assert said["reason"]
    assert (study.user_attrs, len(study.trials)) == before


def test_without_a_token_nothing_can_be_steered() -> None:
    changes = {"HTTP_X_STEERING_TOKEN": ""}
    assert post(make_study(), "stop", {}, token="", **changes)[0] == "405 Method Not Allowed"


def test_a_mark_is_shown_until_it_is_taken_away() -> None:
    study = make_study()
    data = PageData(study, Prices(1, 1))

    def read_marks() -> Any:
        return json.loads(data.write_changes() or "")["study"]["marks"]

    for number in (1, 0):
        assert post(study, "mark", {"number": number, "marked": True})[0] == "200 OK"
    assert read_marks() == [0, 1]
    post(study, "mark", {"number": 1, "marked": False})
    study.set_user_attr("llm:mark:x", True)
    study.set_user_attr("llm:mark:5", "yes")
    assert read_marks() == [0]
    for number in (2, -1, True, "0", None):
        assert post(study, "mark", {"number": number, "marked": True})[0] == "403 Forbidden"


def test_a_study_that_is_asked_to_stop_ends_after_its_running_trials() -> None:
    study = make_study()

    def stopping(trial: optuna.Trial) -> float:
        if trial.number == 4:
            assert post(study, "stop", {})[0] == "200 OK"
        return objective(trial)

    study.optimize(stopping, n_trials=10, catch=Exception)
    assert len(study.trials) == 5
    # It is a request to those who are at work, not a state of the study.
    study.optimize(objective, n_trials=3, catch=Exception)
    assert len(study.trials) == 8


def test_what_stands_for_a_request_to_stop_may_be_anything() -> None:
    study = make_study()
    for value in ("soon", [], True, -1, 1e300, {"a": 1}):
        study.set_user_attr("llm:stop", value)
        study.optimize(objective, n_trials=1, catch=Exception)
    write_stop(study)
    trial = study.ask()  # Outside of optimize there is nothing to stop.
    write_stop(study)
    study.tell(trial, 1.0)
