"""A server that is not there: said at once, not waited for long, used once it is."""

from __future__ import annotations

from contextlib import nullcontext
import logging
import socket
import time
from typing import Any

import optuna
from optuna.trial import TrialState
from provenance import told
import pytest
from pytest_httpserver import HTTPServer

from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import NeverAnsweredError
from optuna_llm import OpenAIModel
from optuna_llm import ReplyError
from optuna_llm import suggest_text
from optuna_llm.evaluate import Judge
from optuna_llm.testing import write_reply


MESSAGES = (Message("system", "Be brief."), Message("user", "Hello?"))
PATH = "/v1/chat/completions"
HI = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}


@pytest.fixture
def port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        name: tuple[str, int] = free.getsockname()
        return name[1]


@pytest.fixture
def first_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for a server that has never answered, in place of ten."""
    monkeypatch.setattr("optuna_llm.models._served._FIRST_PATIENCE", 1.0)


def connect(port: int, **arguments: Any) -> OpenAIModel:
    return OpenAIModel("m", base_url=f"http://127.0.0.1:{port}/v1", **arguments)


def serve_later(port: int) -> HTTPServer:
    server = HTTPServer(host="127.0.0.1", port=port)
    message = {"content": write_reply({"x": 0.25})}
    answer = {"choices": [{"message": message, "finish_reason": "stop"}]}
    server.expect_request(PATH).respond_with_json(answer)
    return server


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.mark.parametrize("verbosity", [optuna.logging.INFO, optuna.logging.CRITICAL])
def test_the_first_failed_connection_is_shown_whatever_the_verbosity(
    verbosity: int, port: int
) -> None:
    optuna.logging.set_verbosity(verbosity)
    model = connect(port, patience=0)
    kept = Kept()
    logger = logging.getLogger("optuna_llm")
    logger.addHandler(kept)
    for _ in range(2):
        with pytest.raises(ModelError, match="refused"):
            model.complete(MESSAGES)
    logger.removeHandler(kept)
    assert len(kept.records) == 1
    assert kept.records[0].levelno >= max(verbosity, logging.ERROR)
    assert "refused. It has not answered yet." in kept.records[0].getMessage()


@pytest.mark.usefixtures("first_patience")
def test_a_server_that_has_never_answered_is_not_waited_for_long(port: int) -> None:
    dead = connect(port, patience=600)
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(NeverAnsweredError, match=r"refused.*check that the server runs"):
            dead.complete(MESSAGES)
    assert time.monotonic() - began < 100  # Far from its patience, however busy the machine.


@pytest.mark.usefixtures("first_patience")
def test_a_name_that_does_not_resolve_is_not_waited_for_long() -> None:
    model = OpenAIModel("m", base_url="http://no-such-host.invalid/v1", api_key="x")
    with pytest.raises(NeverAnsweredError, match=r"No response from no-such-host\.invalid"):
        model.complete(MESSAGES)


def test_an_address_that_swallows_connections_is_found_out_in_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("optuna_llm.models._connection._LONGEST_CONNECT", 0.1)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):  # They fill its queue: nobody accepts.
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        with pytest.raises(NeverAnsweredError, match="timed out"):
            connect(full.getsockname()[1], patience=0, timeout=60).complete(MESSAGES)


@pytest.mark.usefixtures("first_patience")
@pytest.mark.parametrize("status", [200, 400])
def test_a_server_that_has_answered_is_waited_for(status: int, httpserver: HTTPServer) -> None:
    answer = HI if status == 200 else {"error": {"message": "no", "type": "content_filter"}}
    httpserver.expect_ordered_request(PATH).respond_with_json(answer, status=status)
    for _ in range(3):
        httpserver.expect_ordered_request(PATH).respond_with_data("<html>Starting</html>")
    httpserver.expect_ordered_request(PATH).respond_with_json(HI)
    model = connect(httpserver.port, patience=120)
    with nullcontext() if status == 200 else pytest.raises(ReplyError):
        model.complete(MESSAGES)
    assert model.complete(MESSAGES).text == "Hi"


@pytest.mark.parametrize("arguments", [{}, {"prefetch": 2}])
def test_a_study_with_texts_ends_with_the_error(port: int, arguments: dict[str, Any]) -> None:
    sampler = LLMSampler("Go down.", model=connect(port, patience=0), **arguments)
    study = optuna.create_study(sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        return len(suggest_text(trial, "text", "Hello"))

    for n_trials in (2, 3):  # Another try is made with each call of optimize.
        with pytest.raises(ModelSetupError, match=r"refused.*never answered"):
            study.optimize(objective, n_trials=9, catch=Exception)
        assert len(study.trials) == n_trials
    assert all(trial.state.is_finished() for trial in study.trials)


def test_a_judge_that_is_not_there_ends_the_study(port: int) -> None:
    judge = Judge("Good? {text}", model=connect(port, patience=0))
    study = optuna.create_study(sampler=LLMSampler(model="offline"))
    with pytest.raises(NeverAnsweredError):
        study.optimize(
            lambda t: judge(suggest_text(t, "text", "Hello"), t).score, 9, catch=Exception
        )
    assert len(study.trials) == 1


def test_numbers_go_on_without_the_server_and_with_it_once_it_is_there(port: int) -> None:
    study = optuna.create_study(sampler=LLMSampler("Go down.", model=connect(port, patience=0)))

    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1)

    study.optimize(objective, n_trials=3)
    assert [told(trial, "source") for trial in study.trials[1:]] == ["fallback"] * 2
    assert "refused" in told(study.trials[2], "error")
    with serve_later(port):
        study.optimize(objective, n_trials=1)
    assert study.trials[3].params == {"x": 0.25}
    assert told(study.trials[3], "source") == "model"
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
