"""How a JSON schema reaches a server, whichever way it takes one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import json
import threading
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from test_request import completion
from test_request import connect
from test_request import MESSAGES
from test_request import refuse
from test_request import serve

from optuna_llm import ContextLengthError
from optuna_llm import ReplyError


SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
REPLY = '{"x": 1}'


def find_form(body: dict[str, Any]) -> str:
    """How a request holds the schema."""
    given = body.get("response_format") or (body.get("text") or {}).get("format")
    if given is None:
        return "none"
    inner = given.get("json_schema", given)
    assert inner["schema"] == SCHEMA
    return f"{given['type']}, strict" if inner.get("strict") else str(given["type"])


FASTAPI = [{"loc": ["body", "response_format", "type"], "msg": "Input should be 'text'"}]
REFUSALS = {
    "OpenAI": refuse("Invalid schema for response_format 'reply'", param="response_format"),
    "Groq": refuse("This model does not support response format `json_schema`."),
    "DeepSeek": refuse("This response_format type is unavailable now"),
    "LM Studio": (400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}),
    "llama.cpp": (500, {"error": {"message": "failed to parse grammar", "code": 500}}),
    "llama-cpp-python": (
        500,
        {
            "error": {
                "message": "1 validation error:\n  {'type': 'literal_error', 'loc': ('body', "
                "'response_format', 'type'), 'msg': \"Input should be 'text' or 'json_object'\"}",
                "type": "internal_server_error",
            }
        },
    ),
    "vLLM": (400, {"message": "Structured outputs are not supported here", "code": 400}),
    "FastAPI": (422, {"detail": FASTAPI}),
    "Gemini": (400, [{"error": {"code": 400, "message": 'Unknown name "response_format"'}}]),
}


def test_the_usual_form_is_sent_first(server: HTTPServer) -> None:
    bodies = serve(server, lambda _: completion(REPLY))
    model = connect(server)
    assert not model.complete(MESSAGES, schema=SCHEMA).is_free
    assert find_form(bodies[0]) == "json_schema, strict"
    model.complete(MESSAGES)
    assert find_form(bodies[1]) == "none"
    assert model.adaptations == {}


@pytest.mark.parametrize("who", REFUSALS)
@pytest.mark.parametrize("taken", ["json_schema", "json_object", "none"])
def test_a_refused_form_is_followed_by_the_next_and_remembered(
    server: HTTPServer, who: str, taken: str
) -> None:
    bodies = serve(
        server, lambda body: completion(REPLY) if find_form(body) == taken else REFUSALS[who]
    )
    model = connect(server)
    replies = [model.complete(MESSAGES, schema=SCHEMA) for _ in range(2)]
    assert [reply.text for reply in replies] == [REPLY, REPLY]
    assert [reply.is_free for reply in replies] == [taken == "none"] * 2
    forms = ["json_schema, strict", "json_schema", "json_object", "none"]
    tried = forms[: forms.index(taken) + 1]
    assert [find_form(body) for body in bodies] == [*tried, taken]
    verdict = {
        "json_schema": "sent as json_schema",
        "json_object": "sent as json_object with a schema",
        "none": "left out",
    }
    assert model.adaptations == {"response_format": verdict[taken]}


def test_threads_that_are_refused_at_once_skip_no_form(server: HTTPServer) -> None:
    together = threading.Barrier(4, timeout=60)

    def answer(body: dict[str, Any]) -> Any:
        if find_form(body) == "json_schema, strict":
            together.wait()
            return REFUSALS["OpenAI"]
        return completion(REPLY)

    bodies = serve(server, answer)
    model = connect(server)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: model.complete(MESSAGES, schema=SCHEMA), range(4)))
    assert [find_form(body) for body in bodies[4:]] == ["json_schema"] * 4


def test_the_responses_api_has_a_place_of_its_own_for_it(server: HTTPServer) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if find_form(body) == "json_schema, strict":
            return refuse("Invalid schema for response_format", param="text.format.schema")
        part = {"type": "output_text", "text": REPLY}
        message = {"type": "message", "content": [part]}
        return {"object": "response", "status": "completed", "output": [message]}

    bodies = serve(server, answer)
    model = connect(server, api="responses", verbosity="low")
    assert model.complete(MESSAGES, schema=SCHEMA).text == REPLY
    assert [find_form(body) for body in bodies] == ["json_schema, strict", "json_schema"]
    assert bodies[1]["text"]["verbosity"] == "low"


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_format_that_the_user_has_set_stays(server: HTTPServer, api: Any) -> None:
    message = {"type": "message", "content": REPLY}
    answer = completion(REPLY, object="response", status="completed", output=[message])
    bodies = serve(server, lambda _: answer)
    model = connect(server, api=api, response_format={"type": "text"})
    assert model.complete(MESSAGES, schema=SCHEMA).is_free
    assert '"schema"' not in json.dumps(bodies[0])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refuse("This model's maximum context length is 9 tokens."), ContextLengthError),
        (refuse("Failed to generate JSON", code="json_validate_failed"), ReplyError),
    ],
)
def test_what_is_not_about_the_schema_does_not_drop_it(
    server: HTTPServer, answer: Any, expected: type[Exception]
) -> None:
    serve(server, lambda _: answer)
    model = connect(server)
    with pytest.raises(expected):
        model.complete(MESSAGES, schema=SCHEMA)
    assert model.adaptations == {}
