"""What is sent, and how it changes after what a server rejects."""

from __future__ import annotations

from collections.abc import Callable
import json
import pickle
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request
from werkzeug import Response

from optuna_llm import Completion
from optuna_llm import Message
from optuna_llm import ModelSetupError
from optuna_llm import OpenAIModel
from optuna_llm import Usage


MESSAGES = (Message("system", "Be brief."), Message("user", "Hello? é 字 😀"))


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


def test_a_count_that_stays_the_same_for_longer_and_longer_prompts_is_a_limit(
    server: HTTPServer, logs: pytest.LogCaptureFixture
) -> None:
    serve(server, lambda _: completion("Hi", usage={"prompt_tokens": 2050}))
    model = connect(server)
    for size in (8_200, 9_000, 9_500, 10_500):
        model.complete((MESSAGES[0], Message("user", "word " * (size // 5))))
    warnings = [r.getMessage() for r in logs.records if "truncated the prompt" in r.getMessage()]
    assert len(warnings) == 1
    assert "counted 2,050 prompt tokens where about 2,6" in warnings[0]


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
