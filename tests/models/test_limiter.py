"""Threads that share a model's rate limit, against servers that enforce it."""

from __future__ import annotations

import _thread
from concurrent.futures import ThreadPoolExecutor
import pickle
import threading
from typing import Any
from typing import Literal

from forking import needs_fork
from forking import run_forked
import optuna
import pytest
from rate_server import RateServer
from rate_server import serve_rate
from waiting import wait_for

from optuna_llm import _cancellation
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import OpenAIModel
from optuna_llm.models import _rate
from optuna_llm.models._circumstances import calling
from optuna_llm.models._deadline import CancelledError
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


ASK = [Message("system", "s" * 300), Message("user", "u" * 340)]
N_THREADS = 16


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds of a minute that passes sooner, for clients and servers."""
    monkeypatch.setattr(_rate, "MINUTE", 0.8)
    return 0.8


def ask_from_threads(server: RateServer, n_calls: int, **arguments: Any) -> int:
    """How many calls ended without a reply."""
    model = OpenAIModel("m", base_url=server.url, patience=0, **arguments)

    def ask(_: int) -> int:
        try:
            return model.complete(ASK).text != "Good day."
        except ModelError:
            return 1

    with ThreadPoolExecutor(N_THREADS) as pool:
        return sum(pool.map(ask, range(n_calls)))


@pytest.mark.parametrize("kind", ["bucket", "window"])
def test_no_call_of_many_threads_is_refused(
    kind: Literal["bucket", "window"], minute: float
) -> None:
    # A call takes 250 tokens; the server counts the edges of its window from when a call arrives.
    with serve_rate(6_000, minute, kind) as server:
        n_failed = ask_from_threads(server, 40, max_tokens_per_minute=5_000)
    assert (n_failed, server.n_refused, server.n_answered) == (0, 0, 40)


def test_without_a_limit_the_same_calls_are_refused(minute: float) -> None:
    with serve_rate(6_000, minute) as server:
        n_failed = ask_from_threads(server, 40)
    assert n_failed == server.n_refused > 0


def test_what_the_server_tells_slows_threads_down_before_they_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_rate, "MINUTE", 3.0)
    with serve_rate(8_000, 3.0, tells=True) as server:
        n_failed = ask_from_threads(server, 40)
    assert (n_failed, server.n_refused, server.n_answered) == (0, 0, 40)


def make_full(server: RateServer, **arguments: Any) -> OpenAIModel:
    """A model whose next call has to wait for a minute."""
    model = OpenAIModel("m", base_url=server.url, max_tokens_per_minute=240, **arguments)
    model.complete(ASK)
    return model


def is_waiting(model: OpenAIModel) -> bool:
    return bool(model._limiter._queue)


def test_a_call_that_waits_for_its_turn_can_be_cancelled() -> None:
    ends: list[BaseException] = []
    with serve_rate(9_999, 60) as server:
        model = make_full(server)

        def ask() -> None:
            try:
                model.complete(ASK)
            except CancelledError as error:
                ends.append(error)

        cancellation = _cancellation.start_thread(ask)
        wait_for(lambda: is_waiting(model))
        cancellation.cancel()
        wait_for(lambda: ends)
        assert not is_waiting(model)
    assert server.n_answered == 1


def test_a_call_that_waits_for_its_turn_can_be_interrupted() -> None:
    with serve_rate(9_999, 60) as server:
        model = make_full(server)

        def interrupt() -> None:
            wait_for(lambda: is_waiting(model))
            _thread.interrupt_main()

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            model.complete(ASK)
    assert not is_waiting(model)


def test_another_model_is_asked_rather_than_to_wait_for_long() -> None:
    def answer(messages: object) -> str:
        return write_reply({"x": 0.5})

    with serve_rate(9_999, 60) as server:
        models: Any = {"limited": make_full(server), "other": ScriptedModel(answer)}
        study = optuna.create_study(sampler=LLMSampler("Go.", model=models, seed=0))
        study.enqueue_trial({"x": 0.1})
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 2)
    assert study.trials[1].user_attrs["llm:proposal"]["proposer"] == "other"
    assert server.n_answered == 1


def test_a_wait_for_the_limit_is_no_part_of_the_patience(minute: float) -> None:
    with serve_rate(99_999, minute) as server:
        model = make_full(server, patience=0)
        assert model.complete(ASK).text
    assert server.n_answered == 2


def ask_at_once(model: OpenAIModel) -> str:
    """What comes of a call that may not wait."""
    try:
        with calling(1, patience=0.0):
            return model.complete(ASK).text
    except ModelError as error:
        return str(error)


@needs_fork
def test_a_pickled_copy_and_a_forked_child_have_the_limit_for_themselves() -> None:
    with serve_rate(9_999, 60) as server:
        model = make_full(server)
        assert "rate limit leaves no room" in ask_at_once(model)
        copied = pickle.loads(pickle.dumps(model))
        with model._limiter._lock:  # As another thread of the parent might hold it.
            (in_child,) = run_forked(lambda _: (ask_at_once(model), ask_at_once(model)), 1)
        in_copy = (ask_at_once(copied), ask_at_once(copied))
    for first, second in (in_child, in_copy):
        assert first == "Good day."
        assert "rate limit leaves no room" in second


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_must_be_above_0(limit: Any) -> None:
    with pytest.raises(ValueError, match="max_tokens_per_minute must be above 0"):
        OpenAIModel("m", base_url="http://localhost:1/v1", max_tokens_per_minute=limit)
