"""Over real HTTP, through the real client, to a server on this machine."""

from __future__ import annotations

from collections.abc import Callable
import copy
import importlib
import json
import pickle
import signal
import socket
import threading
from typing import Any

import openai
import optuna
from optuna.trial import TrialState
from provenance import only_models
from provenance import told
import pytest
from pytest_httpserver import HTTPServer
from waiting import wait_for
from werkzeug import Request
from werkzeug import Response

from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import OfflineModel
from optuna_llm import OpenAIModel
from optuna_llm import suggest_text
from optuna_llm import Usage
from optuna_llm._cancellation import start_thread
from optuna_llm.models import resolve_model


MESSAGES = (Message("system", "Be brief."), Message("user", "Hello? é 字 😀"))
PATH = "/v1/chat/completions"


def completion(text: str | None, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "served-model-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        **fields,
    }


def connect(server: HTTPServer, name: str = "some-model", **arguments: Any) -> OpenAIModel:
    return OpenAIModel(name, base_url=server.url_for("/v1"), **arguments)


def test_a_mixed_study_runs_against_a_server_and_sends_what_is_needed_only(
    server: HTTPServer,
) -> None:
    offline = OfflineModel(0)
    bodies: list[dict[str, Any]] = []

    def answer(request: Request) -> Response:
        body = json.loads(request.get_data())
        bodies.append(body)
        reply = offline.complete([Message(**message) for message in body["messages"]]).text
        usage = {
            "prompt_tokens": 1000 + len(bodies),
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 900},
            "completion_tokens_details": {"reasoning_tokens": 20},
        }
        return Response(json.dumps(completion(reply, usage=usage)), mimetype="application/json")

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -10, 10)
        kind = trial.suggest_categorical("kind", ["a", None, 3])
        return x * x + float(suggest_text(trial, "code", "12.5")) + (kind != "a")

    server.expect_request(PATH, method="POST").respond_with_handler(answer)
    sampler = LLMSampler("Go down.", model=connect(server), seed=0, proposers=only_models)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=20)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 20
    assert [told(t, "source") for t in study.trials] == ["initial"] + ["model"] * 19
    assert study.best_value < study.trials[0].value  # type: ignore[operator]
    assert len(bodies) >= 19
    for body in bodies:
        assert body.keys() == {"model", "messages"}
        assert body["model"] == "some-model"
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
    asked = study.trials[1:]
    assert {told(trial, "model") for trial in asked} == {"served-model-1"}

    def total(name: str) -> int:
        return sum(told(trial, name) for trial in asked)

    n = len(bodies)
    assert total("calls") == n
    assert total("prompt_tokens") == sum(range(1001, 1001 + n))
    assert total("cached_tokens") == 900 * n
    assert total("completion_tokens") == 50 * n
    assert total("reasoning_tokens") == 20 * n


def test_parameters_of_the_user_are_sent_as_given(server: HTTPServer) -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: Request) -> Response:
        sent.append(json.loads(request.get_data()))
        assert request.headers["Authorization"] == "Bearer sk-test"
        return Response(json.dumps(completion("Hi")), mimetype="application/json")

    server.expect_request(PATH).respond_with_handler(answer)
    model = connect(server, api_key="sk-test", temperature=0.5, extra_body={"top_k": 3})
    assert model.complete(MESSAGES).text == "Hi"
    assert sent[0] == {
        "model": "some-model",
        "messages": [vars(message) for message in MESSAGES],
        "temperature": 0.5,
        "top_k": 3,
    }


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (None, Usage()),
        ({"prompt_tokens": 5, "completion_tokens": None}, Usage(prompt_tokens=5)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, Usage(9, 4)),
        ({"prompt_tokens": "many", "prompt_tokens_details": None}, Usage()),
    ],
)
def test_usage_is_read_from_what_servers_send(server: HTTPServer, usage: Any, read: Usage) -> None:
    server.expect_request(PATH).respond_with_json(completion("Hi", usage=usage))
    assert connect(server).complete(MESSAGES).usage == read


def test_a_reply_without_content_is_an_empty_text(server: HTTPServer) -> None:
    server.expect_request(PATH).respond_with_json(completion(None))
    assert connect(server).complete(MESSAGES).text == ""


OPENAI_ERROR = {"error": {"message": "wrong, said the server", "code": "some_code"}}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
@pytest.mark.parametrize(
    "body", [OPENAI_ERROR, {"detail": "wrong, said the server"}, "wrong, said the server"]
)
def test_a_refusal_for_good_ends_the_study_and_names_its_cause(
    server: HTTPServer, status: int, body: Any
) -> None:
    server.expect_request(PATH).respond_with_json(body, status=status)
    study = optuna.create_study(sampler=LLMSampler(model=connect(server)))
    with pytest.raises(ModelSetupError, match=f"answered {status}: wrong, said the server"):
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=5)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]
    assert len(server.log) == 1


def test_a_used_up_quota_is_a_refusal_for_good(server: HTTPServer) -> None:
    body = {"error": {"message": "pay first", "code": "insufficient_quota"}}
    server.expect_request(PATH).respond_with_json(body, status=429)
    with pytest.raises(ModelSetupError, match="pay first"):
        connect(server).complete(MESSAGES)
    assert len(server.log) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_an_error_that_numbers_fall_back_on(
    server: HTTPServer, status: int
) -> None:
    server.expect_request(PATH).respond_with_json(OPENAI_ERROR, status=status)
    client = openai.OpenAI(api_key="x", base_url=server.url_for("/v1"))
    model = OpenAIModel("m", client=client, patience=0)
    study = optuna.create_study(sampler=LLMSampler(model=model))
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    assert told(study.trials[1], "source") == "fallback"
    assert f"answered {status}" in told(study.trials[1], "error")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"<html>A proxy's page</html>",
        b"[]",
        b"null",
        b"{}",
        b'{"choices": [{"message": null}]}',
        b'{"choices": [null]}',
        b'{"choices": {"a": 1}}',
        b"[" * 100_000,
        b"\xff\xfe",
        b"data: [DONE]\n\n",
    ],
)
def test_a_body_that_is_no_completion_is_a_model_error(server: HTTPServer, body: bytes) -> None:
    server.expect_request(PATH).respond_with_data(body, content_type="application/json")
    with pytest.raises(ModelError, match="localhost for 'some-model' sent no chat completion"):
        connect(server, patience=0).complete(MESSAGES)


def test_nobody_at_the_address_is_a_model_error_that_says_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = OpenAIModel("m", base_url=f"http://user:secret@127.0.0.1:{port}/v1", patience=0)
    with pytest.raises(ModelError, match=r"127\.0\.0\.1.*refused") as caught:
        model.complete(MESSAGES)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("part", ["headers", "body", "stream"])
def test_a_response_that_trickles_ends_at_the_deadline(part: str) -> None:
    piece = {"headers": b"X-A: b\r\n", "body": b" ", "stream": b": wait\n\n"}[part]

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            start = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
            connection.sendall(start if part == "headers" else start + b"\r\n")
            # For a minute at the longest: it would end in an error of another kind then.
            for _ in range(1_200):
                if over.wait(0.05):
                    return
                try:
                    connection.sendall(piece)
                except OSError:
                    return

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        is_stream = part == "stream"
        model = OpenAIModel("m", base_url=url, stream=is_stream, timeout=0.5, patience=0)
        with pytest.raises(ModelError, match=r"No reply within 0\.5 seconds"):
            model.complete(MESSAGES)
        over.set()
        thread.join()


def interrupt(model: OpenAIModel, is_asked: threading.Event) -> None:
    def send() -> None:
        is_asked.wait()
        # To this thread, so that it does not wake the one that waits.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    threading.Thread(target=send).start()
    with pytest.raises(KeyboardInterrupt):
        model.complete(MESSAGES)


def cancel(model: OpenAIModel, is_asked: threading.Event) -> None:
    errors: list[Exception] = []

    def call() -> None:
        try:
            model.complete(MESSAGES)
        except ModelError as error:
            errors.append(error)

    cancellation = start_thread(call)
    is_asked.wait()
    cancellation.cancel()
    wait_for(lambda: errors)
    assert str(errors[0]) == "The call was cancelled."


def reach_the_deadline(model: OpenAIModel, is_asked: threading.Event) -> None:
    with pytest.raises(ModelError, match=r"No reply within 3 seconds"):
        model.complete(MESSAGES)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("end", [interrupt, cancel, reach_the_deadline])
def test_a_call_that_is_given_up_is_hung_up(
    end: Callable[[OpenAIModel, threading.Event], None], is_first: bool
) -> None:
    """On a new connection and on one that has served a call before."""
    is_asked = threading.Event()
    body = json.dumps(completion("Hi")).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    last: list[bytes] = []

    def receive(connection: socket.socket) -> None:
        received = b""
        while not received.endswith(b"}"):
            received += connection.recv(65536)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(60)
            if not is_first:
                receive(connection)
                connection.sendall(head % len(body) + body)
            receive(connection)
            is_asked.set()
            last.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        model = OpenAIModel("m", base_url=url, timeout=60, patience=0)
        if end is reach_the_deadline:
            model = OpenAIModel("m", base_url=url, timeout=3, patience=0)
        if not is_first:
            assert model.complete(MESSAGES).text == "Hi"
        end(model, is_asked)
        server.join()
    assert last == [b""]
    for thread in threading.enumerate():
        if thread.name.startswith("optuna_llm"):
            thread.join(60)
            assert not thread.is_alive()


def test_pickles_and_copies_leave_client_and_key_behind(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.expect_request(PATH).respond_with_json(completion("Hi"))
    model = connect(server, api_key="sk-very-secret")
    model.complete(MESSAGES)
    pickled = pickle.dumps(model)
    assert b"sk-very-secret" not in pickled
    assert "sk-very-secret" not in repr(model)
    assert pickle.loads(pickled).complete(MESSAGES).text == "Hi"
    assert copy.deepcopy(model) is model
    client = openai.OpenAI(api_key="x")
    with pytest.raises(TypeError, match=r"cannot be pickled.*base_url="):
        pickle.dumps(OpenAIModel("m", client=client))


def test_one_model_serves_many_threads(server: HTTPServer) -> None:
    server.expect_request(PATH).respond_with_json(completion("Hi"))
    model = connect(server)
    replies: list[str] = []
    threads = [
        threading.Thread(target=lambda: replies.append(model.complete(MESSAGES).text))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == ["Hi"] * 8


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:11434/v1",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "http://192.168.1.5/v1",
        "http://ollama:11434/v1",
        "http://box.local/v1",
    ],
)
def test_a_local_server_needs_no_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    OpenAIModel("m", base_url=url)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    assert isinstance(resolve_model("m"), OpenAIModel)


@pytest.mark.parametrize("url", [None, "", "https://openrouter.ai/api/v1", "http://8.8.8.8/v1"])
def test_a_server_elsewhere_needs_a_key(url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url or "")
    with pytest.raises(ValueError, match="No API key is known for the model 'm'"):
        OpenAIModel("m")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    OpenAIModel("m")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": ""}, "name must be"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"patience": -1}, "patience must be 0 seconds or more"),
        ({"base_url": "localhost:8000"}, "base_url must begin with http"),
        ({"api": "completions"}, "api must be 'chat' or 'responses'"),
        ({"n": 2}, "'n' is set by optuna_llm"),
        ({"client": openai.AsyncOpenAI(api_key="x")}, "client must be an openai.OpenAI"),
        ({"client": openai.OpenAI(api_key="x")}, "but not both"),
        ({"api_key": "sk-test\n"}, "The API key holds"),
        ({"api_key": "sk-tést"}, "The API key holds"),
    ],
)
def test_a_wrong_argument_is_named_at_once(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        OpenAIModel(**{"name": "m", "api_key": "sk-test", **arguments})
    assert "sk-t" not in str(caught.value)


def test_openai_itself_is_told_which_prompts_begin_alike() -> None:
    make_client = getattr(openai, "DefaultHttpx2Client", None) or openai.DefaultHttpxClient
    http = importlib.import_module(
        "httpx2" if make_client.__name__.endswith("2Client") else "httpx"
    )
    bodies: list[dict[str, Any]] = []

    def answer(request: Any) -> Any:
        bodies.append(json.loads(request.content))
        if len(bodies) == 3:
            error = {"message": "Unknown parameter", "param": "prompt_cache_key"}
            return http.Response(400, json={"error": error})
        return http.Response(200, json=completion("Hi"))

    client = openai.OpenAI(
        api_key="x", http_client=make_client(transport=http.MockTransport(answer))
    )
    model = OpenAIModel("m", client=client)
    model.complete(MESSAGES)
    model.complete((MESSAGES[0], Message("user", "Something else.")))
    model.complete(MESSAGES)
    keys = [body.get("prompt_cache_key") for body in bodies]
    assert keys[0] == keys[1] == keys[2]
    assert len(keys[0]) == 32
    # Refused once, it is not sent again.
    assert keys[3] is None
