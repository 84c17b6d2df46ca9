"""Over real HTTP, through the real client, to a server on this machine."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import copy
import importlib
import json
import os
import pickle
import signal
import socket
import threading
import time
from typing import Any

import openai
import optuna
from optuna.trial import TrialState
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request
from werkzeug import Response

from optuna_llm import Completion
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


@pytest.fixture(scope="session")
def make_httpserver() -> Iterator[HTTPServer]:
    """One server for all tests, since stopping one takes half a second."""
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def server(httpserver: HTTPServer) -> HTTPServer:
    return httpserver


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
    study = optuna.create_study(sampler=LLMSampler("Go down.", model=connect(server), seed=0))
    study.optimize(objective, n_trials=20)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 20
    assert [t.user_attrs["llm:source"] for t in study.trials] == ["initial"] + ["model"] * 19
    assert study.best_value < study.trials[0].value  # type: ignore[operator]
    assert len(bodies) >= 19
    for body in bodies:
        assert body.keys() == {"model", "messages"}
        assert body["model"] == "some-model"
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
    asked = [trial.user_attrs for trial in study.trials[1:]]
    assert {attributes["llm:model"] for attributes in asked} == {"served-model-1"}

    def total(key: str) -> int:
        return sum(attributes[key] for attributes in asked)

    n = len(bodies)
    assert total("llm:calls") == n
    assert total("llm:prompt_tokens") == sum(range(1001, 1001 + n))
    assert total("llm:cached_tokens") == 900 * n
    assert total("llm:completion_tokens") == 50 * n
    assert total("llm:reasoning_tokens") == 20 * n


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
    assert study.trials[1].user_attrs["llm:source"] == "fallback"
    assert f"answered {status}" in study.trials[1].user_attrs["llm:error"]


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


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_response_that_trickles_ends_at_the_deadline(part: str) -> None:
    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            start = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
            connection.sendall(start if part == "headers" else start + b"\r\n")
            while not over.wait(0.05):
                try:
                    connection.sendall(b"X-A: b\r\n" if part == "headers" else b" ")
                except OSError:
                    return

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        begin = time.monotonic()
        with pytest.raises(ModelError, match=r"No reply within 0\.5 seconds"):
            OpenAIModel("m", base_url=url, timeout=0.5, patience=0).complete(MESSAGES)
        assert time.monotonic() - begin < 5
        over.set()
        thread.join()


def interrupt(model: OpenAIModel) -> None:
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        model.complete(MESSAGES)


def cancel(model: OpenAIModel) -> None:
    errors: list[Exception] = []

    def call() -> None:
        try:
            model.complete(MESSAGES)
        except ModelError as error:
            errors.append(error)

    cancellation = start_thread(call)
    time.sleep(0.3)
    cancellation.cancel()
    while not errors:
        time.sleep(0.01)
    assert str(errors[0]) == "The call was cancelled."


def wait_long(model: OpenAIModel) -> None:
    with pytest.raises(ModelError, match=r"No reply within 1 seconds"):
        model.complete(MESSAGES)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("end", [interrupt, cancel, wait_long])
def test_a_call_that_is_given_up_is_hung_up(
    end: Callable[[OpenAIModel], None], is_first: bool
) -> None:
    """On a new connection and on one that has served a call before."""
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
            connection.settimeout(20)
            if not is_first:
                receive(connection)
                connection.sendall(head % len(body) + body)
            receive(connection)
            last.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        model = OpenAIModel("m", base_url=url, timeout=1, patience=0)
        if not is_first:
            assert model.complete(MESSAGES).text == "Hi"
        end(model)
        server.join()
    assert last == [b""]
    for thread in threading.enumerate():
        if thread.name.startswith("optuna_llm"):
            thread.join(5)
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


Answer = Callable[[dict[str, Any]], Any]


def serve(server: HTTPServer, answer: Answer) -> list[dict[str, Any]]:
    """Answer requests to any path; returns their bodies, which are added as they come."""
    bodies: list[dict[str, Any]] = []

    def respond(request: Request) -> Response:
        body = {"path": request.path} | json.loads(request.get_data())
        bodies.append(body)
        found = answer(body)
        status, found = found if isinstance(found, tuple) else (200, found)
        is_text = isinstance(found, str)
        return Response(
            found if is_text else json.dumps(found),
            status=status,
            mimetype="text/event-stream" if is_text else "application/json",
        )

    server.expect_request("").respond_with_handler(respond)
    return bodies


def refuse(message: str, **fields: Any) -> tuple[int, Any]:
    return 400, {"error": {"message": message, **fields}}


def test_a_refused_system_message_is_folded_into_the_user_message(server: HTTPServer) -> None:
    def answer(body: dict[str, Any]) -> Any:
        roles = [message["role"] for message in body["messages"]]
        return refuse("System role not supported") if "system" in roles else completion("Hi")

    bodies = serve(server, answer)
    model = connect(server)
    assert [model.complete(MESSAGES).text for _ in range(2)] == ["Hi", "Hi"]
    assert len(bodies) == 3
    content = "\n\n".join(message.content for message in MESSAGES)
    assert bodies[-1]["messages"] == [{"role": "user", "content": content}]
    assert model.adaptations == {"system": "folded into the user message"}


def test_what_is_refused_again_after_all_adaptations_is_an_error_of_the_setup(
    server: HTTPServer,
) -> None:
    bodies = serve(server, lambda _: refuse("System role not supported"))
    with pytest.raises(ModelSetupError, match="System role not supported"):
        connect(server).complete(MESSAGES)
    assert len(bodies) == 2


def test_adaptations_say_all_that_is_sent_otherwise(server: HTTPServer) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if "temperature" in body:
            return refuse("Unsupported parameter: temperature")
        if "max_tokens" in body:
            return refuse(
                "Use 'max_completion_tokens' instead of 'max_tokens'", param="max_tokens"
            )
        if body.get("max_completion_tokens", 0) > 100:
            return refuse("'max_tokens' or 'max_completion_tokens' is too large: 500")
        return completion("Hi")

    bodies = serve(server, answer)
    model = connect(server, temperature=1, max_tokens=500, top_k=3)
    assert model.adaptations == {}
    assert model.complete(MESSAGES).text == "Hi"
    assert bodies[-1].keys() == {"path", "model", "messages", "top_k"}
    assert model.adaptations == {
        "temperature": "left out",
        "max_tokens": "sent as max_completion_tokens",
        "max_completion_tokens": "left out",
    }
    # A copy in another process knows what was learned.
    assert pickle.loads(pickle.dumps(model)).adaptations == model.adaptations


def test_words_of_an_error_that_happen_to_be_parameters_remove_nothing(server: HTTPServer) -> None:
    bodies = serve(server, lambda _: refuse("The user message is invalid; stop."))
    model = connect(server, user="me", stop=["###"])
    with pytest.raises(ModelSetupError, match="The user message is invalid"):
        model.complete(MESSAGES)
    assert len(bodies) == 1
    assert model.adaptations == {}


RESPONSE = {
    "object": "response",
    "status": "completed",
    "model": "served-model-1",
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
    ],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
    },
}


@pytest.mark.parametrize("is_given", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_the_responses_api_is_used_if_given_or_if_the_server_wants_it(
    is_given: bool, stream: bool, server: HTTPServer
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if body["path"] != "/v1/responses":
            message = (
                "This model is only supported in v1/responses and not in v1/chat/completions."
            )
            return 404, {"error": {"message": message, "param": "model"}}
        event = {"type": "response.completed", "response": RESPONSE}
        return f"data: {json.dumps(event)}\n\n" if stream else RESPONSE

    bodies = serve(server, answer)
    arguments: dict[str, Any] = {"api": "responses"} if is_given else {}
    model = connect(
        server, stream=stream, max_tokens=500, reasoning_effort="low", top_p=0.9, **arguments
    )
    expected = Completion("Hi", "served-model-1", Usage(9, 4, 3, 2))
    assert [model.complete(MESSAGES) for _ in range(2)] == [expected] * 2
    assert len(bodies) == (2 if is_given else 3)
    assert bodies[-1] == {
        "path": "/v1/responses",
        "model": "some-model",
        "instructions": MESSAGES[0].content,
        "input": MESSAGES[1].content,
        "max_output_tokens": 500,
        "reasoning": {"effort": "low"},
        "top_p": 0.9,
        "store": False,
        **({"stream": True} if stream else {}),
    }
    renamed = {
        "max_tokens": "sent as max_output_tokens",
        "reasoning_effort": "sent as reasoning.effort",
    }
    assert model.adaptations == (renamed if is_given else renamed | {"api": "responses"})


def events(*parts: Any) -> str:
    chunks = [
        {"model": "served-model-1", "choices": [{"delta": {"content": part}}]} for part in parts
    ]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def test_a_streamed_reply_is_the_same_with_its_tokens_counted(server: HTTPServer) -> None:
    bodies = serve(server, lambda _: events("H", "i"))
    expected = Completion("Hi", "served-model-1", Usage(9, 0, 3))
    assert connect(server, stream=True).complete(MESSAGES) == expected
    assert bodies[0]["stream"] is True
    assert bodies[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("rejected", ["stream_options", "stream"])
def test_a_server_that_knows_no_streaming_is_asked_without(
    rejected: str, server: HTTPServer
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if rejected in body:
            return refuse(f"Extra inputs are not permitted: '{rejected}'", param=rejected)
        return events("Hi") if "stream" in body else completion("Hi")

    bodies = serve(server, answer)
    model = connect(server, stream=True)
    assert model.complete(MESSAGES).text == "Hi"
    assert len(bodies) == 2
    assert model.adaptations == {rejected: "left out"}


def test_a_server_that_only_streams_is_asked_to(server: HTTPServer) -> None:
    bodies = serve(
        server,
        lambda body: events("Hi") if "stream" in body else refuse("Stream must be set to true"),
    )
    model = connect(server)
    assert [model.complete(MESSAGES).text for _ in range(2)] == ["Hi", "Hi"]
    assert len(bodies) == 3
    assert model.adaptations == {"stream": "turned on"}


def test_a_server_that_cuts_prompts_silently_is_noticed_once(
    server: HTTPServer, logs: pytest.LogCaptureFixture
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        sent = sum(len(message["content"]) for message in body["messages"]) // 4
        return completion("Hi", usage={"prompt_tokens": min(sent, 2048)})

    serve(server, answer)
    model = connect(server)
    for size in (8_000, 9_000, 16_000, 32_000):
        model.complete((MESSAGES[0], Message("user", "word " * (size // 5))))
    warnings = [r.getMessage() for r in logs.records if "truncated the prompt" in r.getMessage()]
    assert len(warnings) == 1
    assert "counted 2,048 prompt tokens where about 4,002 were sent" in warnings[0]
    assert "num_ctx" in warnings[0]


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": 1_000},
        {"prompt_tokens": 12_000},
        {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 1_900}},
    ],
)
def test_a_prompt_that_was_read_whole_is_not_taken_for_a_cut_one(
    usage: Any, server: HTTPServer, logs: pytest.LogCaptureFixture
) -> None:
    serve(server, lambda _: completion("Hi", usage=usage))
    connect(server).complete((MESSAGES[0], Message("user", "word " * 1_600)))
    assert not [r for r in logs.records if "truncated" in r.getMessage()]
