"""LiteLLMModel, by the real package and a server on this machine."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

from forking import needs_fork
from forking import run_forked
import optuna
import pytest
from pytest_httpserver import HTTPServer
from waiting import wait_for
from werkzeug import Request
from werkzeug import Response

from optuna_llm import _cancellation
from optuna_llm import ContextLengthError
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import ReplyError
from optuna_llm import Usage
from optuna_llm.models import _litellm
from optuna_llm.models import LiteLLMModel
from optuna_llm.models import resolve_model
from optuna_llm.testing import write_reply


pytest.importorskip("litellm", reason="litellm is not installed")

pytestmark = [
    # It takes seconds to import, and warns of its own dependencies.
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]

MESSAGES = (Message("system", "Be brief."), Message("user", "Hello? é 字 😀"))
KEY = "sk-very-secret-1"
Answer = Callable[[dict[str, Any]], Any]


def say(text: str) -> dict[str, Any]:
    """A message in Anthropic's form."""
    usage = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 7}
    return {
        "id": "1",
        "type": "message",
        "role": "assistant",
        "model": "claude-served",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": usage | {"cache_creation_input_tokens": 0},
    }


def complete(text: str, **fields: Any) -> dict[str, Any]:
    """A chat completion in OpenAI's form."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "served",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 7,
            "total_tokens": 107,
            "prompt_tokens_details": {"cached_tokens": 90},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        **fields,
    }


def refuse(message: str, kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def serve(server: HTTPServer, answer: Answer) -> list[dict[str, Any]]:
    """Answer requests to any path; returns their bodies, which are added as they come."""
    bodies: list[dict[str, Any]] = []

    def respond(request: Request) -> Response:
        body = {"path": request.path} | json.loads(request.get_data())
        bodies.append(body)
        found = answer(body)
        status, found, headers = found if isinstance(found, tuple) else (200, found, {})
        text = found if isinstance(found, str) else json.dumps(found)
        return Response(text, status, headers, mimetype="application/json")

    server.expect_request("").respond_with_handler(respond)
    return bodies


def connect(
    server: HTTPServer, name: str = "anthropic/claude-x", **arguments: Any
) -> LiteLLMModel:
    return LiteLLMModel(name, base_url=server.url_for("/"), api_key=KEY, **arguments)


@pytest.mark.parametrize(
    ("name", "answer", "usage"),
    [
        ("anthropic/claude-x", say("Hi"), Usage(100, 90, 7)),
        ("openai/gpt-x", complete("Hi"), Usage(100, 90, 7, 3)),
    ],
)
def test_text_and_tokens_are_read_whichever_the_provider(
    server: HTTPServer, name: str, answer: dict[str, Any], usage: Usage
) -> None:
    bodies = serve(server, lambda _: answer)
    completion = connect(server, name, max_tokens=500).complete(MESSAGES)
    assert (completion.text, completion.model) == ("Hi", answer["model"])
    assert completion.usage == usage
    assert bodies[0]["max_tokens"] == 500
    assert "Hello? é 字 😀" in json.dumps(bodies[0], ensure_ascii=False)


@pytest.mark.parametrize("name", ["anthropic/claude-x", "openai/gpt-x"])
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, refuse("prompt is too long: 9 > 8 maximum", "x"), ContextLengthError),
        (413, "<html>Request Entity Too Large</html>", ContextLengthError),
        (401, refuse("invalid x-api-key", "authentication_error"), ModelSetupError),
        (404, refuse("model: claude-x", "not_found_error"), ModelSetupError),
        (400, refuse("Your credit balance is too low", "x"), ModelSetupError),
        (400, refuse("Output blocked by content filtering policy", "x"), ReplyError),
    ],
)
def test_each_error_is_judged_as_that_of_any_server(
    server: HTTPServer, name: str, status: int, body: Any, expected: type[LLMError]
) -> None:
    bodies = serve(server, lambda _: (status, body, {}))
    with pytest.raises(expected) as caught:
        connect(server, name).complete(MESSAGES)
    assert type(caught.value) is expected
    assert len(bodies) == 1


@pytest.mark.parametrize("name", ["anthropic/claude-x", "openai/gpt-x"])
@pytest.mark.parametrize(
    ("status", "body", "headers", "seconds"),
    [
        (429, refuse("slow down", "rate_limit_error"), {"retry-after": "0.7"}, 0.7),
        (429, refuse("Please try again in 600ms.", "rate_limit_error"), {}, 0.6),
        (529, refuse("Overloaded", "overloaded_error"), {}, 0),
        (500, "<html>oops</html>", {}, 0),
        (503, refuse("down", "api_error"), {}, 0),
    ],
)
def test_passing_faults_are_retried_after_the_pause_that_is_asked_for(
    server: HTTPServer, name: str, status: int, body: Any, headers: Any, seconds: float
) -> None:
    answers = iter([(status, body, headers), say("Hi") if "claude" in name else complete("Hi")])
    bodies = serve(server, lambda _: next(answers))
    began = time.monotonic()
    assert connect(server, name).complete(MESSAGES).text == "Hi"
    assert time.monotonic() - began >= seconds
    assert len(bodies) == 2


def test_what_litellm_or_the_server_rejects_is_left_out_and_remembered(
    server: HTTPServer,
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if "temperature" in body:
            return 400, refuse("temperature: not supported", "invalid_request_error"), {}
        return say("Hi")

    bodies = serve(server, answer)
    model = connect(server, temperature=0.5, frequency_penalty=1.0)
    assert [model.complete(MESSAGES).text for _ in range(2)] == ["Hi", "Hi"]
    assert model.adaptations == {"temperature": "left out", "frequency_penalty": "left out"}
    assert len(bodies) == 3


def test_a_schema_is_sent_in_the_providers_own_form(server: HTTPServer) -> None:
    bodies = serve(server, lambda _: complete('{"x": 1}'))
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    connect(server, "openai/gpt-x").complete(MESSAGES, schema=schema)
    assert bodies[0]["response_format"]["json_schema"]["schema"] == schema


def test_a_streamed_reply_is_read_as_a_whole(server: HTTPServer) -> None:
    def answer(body: dict[str, Any]) -> Any:
        assert body["stream"]
        events = [
            complete("", choices=[{"index": 0, "delta": {"content": text}}], usage=None)
            for text in ("H", "i")
        ]
        end = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
        events += [complete("", choices=end, usage=None), complete("", choices=[])]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        return "".join([*lines, "data: [DONE]\n\n"])

    serve(server, answer)
    completion = connect(server, "openai/gpt-x", stream=True).complete(MESSAGES)
    assert completion.text == "Hi"
    assert completion.usage.cached_tokens == 90


@pytest.mark.parametrize("name", ["anthropic/claude-x", "openai/gpt-x"])
def test_a_call_ends_at_its_deadline_and_hangs_up(server: HTTPServer, name: str) -> None:
    over = threading.Event()

    def trickle(request: Request) -> Response:
        def body() -> Any:
            while not over.wait(0.05):
                yield b" "

        return Response(body(), mimetype="application/json")

    server.expect_request("").respond_with_handler(trickle)
    model = connect(server, name, timeout=0.5, patience=0)
    _litellm._import_litellm()  # Which takes longer than that.
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"No reply within 0\.5 seconds"):
        model.complete(MESSAGES)
    over.set()
    assert time.monotonic() - began < 5


def test_a_cancelled_call_returns_at_once(server: HTTPServer) -> None:
    over = threading.Event()
    asked = threading.Event()
    errors: list[Exception] = []

    def answer(body: dict[str, Any]) -> Any:
        asked.set()
        over.wait(30)
        return say("Hi")

    serve(server, answer)
    model = connect(server)

    def ask() -> None:
        try:
            model.complete(MESSAGES)
        except ModelError as error:
            errors.append(error)

    cancellation = _cancellation.start_thread(ask)
    assert asked.wait(60)
    cancellation.cancel()
    wait_for(lambda: errors)
    over.set()
    assert "cancelled" in str(errors[0])


def test_no_secret_is_in_an_error_or_a_pickle(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "sk-of-another")
    echo = f"no: {KEY} sk-of-another sk-in-a-header"
    for name in ("anthropic/claude-x", "openai/gpt-x"):
        server.clear()
        serve(server, lambda _: (401, refuse(echo, "authentication_error"), {}))
        model = connect(server, name, extra_headers={"X-Gate": "sk-in-a-header"})
        with pytest.raises(ModelSetupError) as caught:
            model.complete(MESSAGES)
        assert "sk-" not in str(caught.value)
        assert b"sk-" not in pickle.dumps(model)
        with pytest.raises(ModelSetupError, match=r"without its X-Gate"):
            pickle.loads(pickle.dumps(model)).complete(MESSAGES)


def test_a_secret_parameter_is_not_pickled(server: HTTPServer) -> None:
    model = connect(server, aws_secret_access_key="very-secret-too", max_tokens=5)
    pickled = pickle.dumps(model)
    assert b"very-secret-too" not in pickled
    with pytest.raises(ModelSetupError, match="without its aws_secret_access_key, which"):
        pickle.loads(pickled).complete(MESSAGES)


@pytest.mark.parametrize("name", ["claude-x", "nosuch/claude-x"])
def test_an_unknown_provider_ends_the_study_at_once(name: str) -> None:
    with pytest.raises(ModelSetupError, match="LLM Provider NOT provided"):
        LiteLLMModel(name).complete(MESSAGES)


@pytest.mark.parametrize("name", ["anthropic/claude-x", "openai/gpt-x"])
def test_a_server_that_is_not_there_is_said_so(name: str) -> None:
    model = LiteLLMModel(name, base_url="http://127.0.0.1:1", api_key=KEY, patience=0)
    with pytest.raises(ModelError, match=r"litellm for .*(refused|Connection error|connect)"):
        model.complete(MESSAGES)


def test_a_body_that_is_no_completion_is_an_error_of_the_model(server: HTTPServer) -> None:
    serve(server, lambda _: complete("", choices=[]))
    with pytest.raises(LLMError):
        connect(server, "openai/gpt-x", patience=0).complete(MESSAGES)


@needs_fork
def test_forked_processes_read_only_replies_to_their_own_prompts(server: HTTPServer) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return say(body["messages"][-1]["content"][0]["text"])

    serve(server, answer)
    model = connect(server)

    def work(number: int) -> bool:
        said = [f"{number}-{i}" for i in range(5)]
        asked = [(MESSAGES[0], Message("user", words)) for words in said]
        return [model.complete(messages).text for messages in asked] == said

    assert work(9)
    assert run_forked(work, 2) == [True, True]


def test_a_study_runs_by_it_and_keeps_what_it_cost(server: HTTPServer) -> None:
    values = iter([0.5, 0.25])
    serve(server, lambda _: say(write_reply({"x": next(values)})))
    study = optuna.create_study(sampler=LLMSampler(model=connect(server)))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    assert [trial.params["x"] for trial in study.trials[1:]] == [0.5, 0.25]


def test_a_name_after_litellm_is_one_of_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_LLM_MODEL", "litellm/anthropic/claude-x")
    model = resolve_model(None)
    assert isinstance(model, LiteLLMModel)
    assert model.name == "anthropic/claude-x"


def test_it_is_imported_late_and_downloads_nothing() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*arguments): raise AssertionError('the network was asked')\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "from optuna_llm.models import _litellm\n"
        "from optuna_llm.models import LiteLLMModel\n"
        "LiteLLMModel('anthropic/x')\n"
        "assert 'litellm' not in sys.modules\n"
        "_litellm._import_litellm()\n"
        "assert 'litellm' in sys.modules\n"
    )
    environment = {n: v for n, v in os.environ.items() if not n.startswith("LITELLM")}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
