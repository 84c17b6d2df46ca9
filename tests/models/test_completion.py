"""Bodies that hold a completion, in whichever form servers send it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from optuna_llm import Completion
from optuna_llm import ContextLengthError
from optuna_llm import LLMError
from optuna_llm import ModelSetupError
from optuna_llm import ReplyError
from optuna_llm import Usage
from optuna_llm.models._completion import CompletionReader
from optuna_llm.models._completion import MAX_TEXT
from optuna_llm.models._faults import TransientError


def read(body: Any, size: int = 7) -> Completion:
    """What a body holds that comes in pieces of so many bytes."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    reader = CompletionReader("server", ["temperature"])
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader.finish()


def chat(content: Any, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"content": content, **message}}
    return {"model": "m", "choices": [choice]}


def chunk(content: Any, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "delta": {"content": content, **delta}}
    return {"model": "m", "choices": [choice]}


def stream(events: Iterable[Any], end: str = "data: [DONE]\n\n") -> bytes:
    return ("".join(f"data: {json.dumps(event)}\n\n" for event in events) + end).encode()


def response(*content: Any, **fields: Any) -> dict[str, Any]:
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a draft"}]},
        {"type": "message", "content": list(content)},
    ]
    return {"object": "response", "status": "completed", "output": output, "model": "m", **fields}


TEXT = {"type": "output_text", "text": "Hi"}
DRAFT = {"type": "thinking", "thinking": [{"type": "text", "text": "a draft"}]}
PARTS = [chunk("H"), chunk("i"), chunk(None, "stop")]

BODIES: dict[str, Any] = {
    "JSON": chat("Hi"),
    "JSON with a byte order mark": b"\xef\xbb\xbf" + json.dumps(chat("Hi")).encode(),
    "JSON after blanks": b"\n \n" + json.dumps(chat("Hi")).encode(),
    "JSON and [DONE]": json.dumps(chat("Hi")).encode() + b"\n\ndata: [DONE]\n\n",
    "JSON as an event": b"data: " + json.dumps(chat("Hi")).encode() + b"\n\n",
    "events": stream(PARTS),
    "events, no end but the reason": stream(PARTS, end=""),
    "events, no reason but the end": stream(PARTS[:2]),
    "events with line ends of Windows": stream(PARTS).replace(b"\n", b"\r\n"),
    "events after comments": b": PROCESSING\n\n: PROCESSING\n\n" + stream(PARTS),
    "events with names": b"event: message\nid: 1\nretry: 5\n" + stream(PARTS),
    "events of several lines": b'data: {"choices": [{"finish_reason": "stop",\n'
    b'data: "message": {"content": "Hi"}}]}\n\n',
    "events with usage last": stream([*PARTS, {"choices": [], "usage": {"prompt_tokens": 1}}]),
    "events after an empty one": stream([{"choices": [], "prompt_filter_results": []}, *PARTS]),
    "chunks, a line each": b"".join(json.dumps(part).encode() + b"\n" for part in PARTS),
    "parts": chat([DRAFT, {"type": "text", "text": "Hi"}]),
    "parts, thoughts with text": chat([{"type": "reasoning", "text": "no"}, TEXT]),
    "parts without a type": chat([{"text": "Hi"}]),
    "parts that are strings": chat(["H", "i"]),
    "parts in events": stream([chunk([DRAFT]), chunk([{"type": "text", "text": "Hi"}], "stop")]),
    "a part alone": chat({"type": "text", "text": {"value": "Hi"}}),
    "reasoning beside": chat("Hi", reasoning_content="a draft"),
    "an answer taken for reasoning": chat(None, reasoning_content="Hi", tool_calls=[]),
    "an answer taken for reasoning, Ollama": chat("", reasoning="Hi"),
    "an answer taken for reasoning, in events": stream(
        [chunk("", reasoning_content="H"), chunk("", "stop", reasoning_content="i")]
    ),
    "a legacy completion": {"choices": [{"text": "Hi", "finish_reason": "stop"}]},
    "an error of None": chat("Hi") | {"error": None},
    "a response": response(TEXT),
    "a response in events": stream(
        [
            {"type": "response.created", "response": response(status="in_progress")},
            {"type": "response.output_text.delta", "delta": "H"},
            {"type": "response.output_text.delta", "delta": "i"},
            {"type": "response.completed", "response": response(TEXT)},
        ],
        end="",
    ),
    "a response in events, empty at last": stream(
        [
            {"type": "response.output_text.delta", "delta": "Hi"},
            {"type": "response.completed", "response": {"status": "completed", "output": []}},
        ],
        end="",
    ),
}


@pytest.mark.parametrize("form", BODIES)
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_completion_is_read_in_every_form(form: str, size: int) -> None:
    completion = read(BODIES[form], size)
    assert completion.text == "Hi"
    assert not completion.is_cut


@pytest.mark.parametrize(
    "body",
    [
        chat("Hi", "length"),
        chat("Hi", "MAX_TOKENS"),
        stream([chunk("Hi"), chunk("", "length")]),
        chat("", "length", reasoning_content="a long thought"),
        response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
    ],
)
def test_a_reply_that_was_cut_off_says_so(body: Any) -> None:
    completion = read(body)
    assert completion.is_cut
    assert completion.text in ("Hi", "")


FAULTS: dict[str, tuple[Any, type[LLMError], str]] = {
    "no choices": ({"choices": []}, ReplyError, "the prompt was blocked"),
    "choices of None": ({"choices": None}, ReplyError, "the prompt was blocked"),
    "no choices, with a reason": (
        {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}},
        ReplyError,
        "SAFETY",
    ),
    "no choices in events": (stream([{"choices": []}]), ReplyError, "the prompt was blocked"),
    "a refusal": (chat(None, refusal="I had rather not."), ReplyError, "I had rather not"),
    "a refusal in a response": (
        response({"type": "refusal", "refusal": "No."}),
        ReplyError,
        "you refused: No.",
    ),
    "a tool call": (chat(None, tool_calls=[{"id": "1"}]), ReplyError, "called a tool"),
    "a broken tool call": (chat("", "malformed_function_call"), ReplyError, "called a tool"),
    "filtered": (chat(None, "content_filter"), ReplyError, "content filter"),
    "filtered, Gemini": (
        {"choices": [{"finish_reason": "PROHIBITED_CONTENT"}]},
        ReplyError,
        "content filter",
    ),
    "filtered, a response": (
        response(status="incomplete", incomplete_details={"reason": "content_filter"}),
        ReplyError,
        "content filter",
    ),
    "half a text": (chat("Hal", "error"), TransientError, "failed while"),
    "half a text, an abort": (chat("Hal", "abort"), TransientError, "failed while"),
    "half a stream": (stream(PARTS[:1], end=""), TransientError, "the stream ended before"),
    "half a JSON": (b'{"choices": [{"mess', TransientError, "no chat completion"),
    "an error in a stream": (
        stream([chunk("Hal"), {"error": {"code": 502, "message": "upstream"}}]),
        TransientError,
        "answered 502: upstream",
    ),
    "an error in a choice": (
        {"choices": [{"error": {"code": 429, "message": "slow"}, "message": {"content": ""}}]},
        TransientError,
        "slow",
    ),
    "an error after comments": (
        b': PROCESSING\n\n{"error": {"code": 503, "message": "busy"}}\n\n',
        TransientError,
        "busy",
    ),
    "a wrong path": (
        {"error": "Unexpected endpoint or method. (POST /chat/completions)"},
        ModelSetupError,
        "POST /chat/completions",
    ),
    "a wrong key": ({"error": {"message": "bad key", "code": 401}}, ModelSetupError, "bad key"),
    "too long": (
        {"error": {"code": 400, "message": "exceeds the available context size"}},
        ContextLengthError,
        "context size",
    ),
    "too long, in events": (
        stream([{"type": "error", "code": "context_length_exceeded", "message": "too much"}]),
        ContextLengthError,
        "too much",
    ),
    "a failed response": (
        response(status="failed", error={"code": "server_error", "message": "broke"}),
        TransientError,
        "broke",
    ),
    "a list of errors": ([{"error": {"code": 503, "message": "busy"}}], TransientError, "busy"),
    "an error of vLLM's": (
        {"object": "error", "message": "no such model", "code": 404, "choices": None},
        ModelSetupError,
        "no such model",
    ),
    "an error of FastAPI's": ({"detail": "Not Found"}, ModelSetupError, "Not Found"),
    "an error of Cloudflare's": (
        {"success": False, "errors": [{"message": "busy", "code": 3040}]},
        TransientError,
        "busy",
    ),
}


@pytest.mark.parametrize("form", FAULTS)
def test_what_is_no_completion_is_judged_by_what_it_says(form: str) -> None:
    body, kind, says = FAULTS[form]
    with pytest.raises(kind, match=says):
        read(body)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b'{"choices": [{"message": {"content": "', b"x" * 50_000),
        (b"", stream([chunk("x" * 50_000)], end="")),
        (b"data: ", b"x" * 50_000),
        (b"data: ", b"data: " + b"x" * 50_000 + b"\n"),
    ],
    ids=["JSON", "events", "an event", "lines of an event"],
)
def test_a_reply_without_end_is_refused_before_all_of_it_is_read(
    start: bytes, piece: bytes
) -> None:
    fed: list[int] = []

    def feed() -> None:
        reader = CompletionReader("server", [])
        reader.feed(start)
        for _ in range(1_000):
            fed.append(len(piece))
            reader.feed(piece)

    with pytest.raises(ReplyError, match="longer than 1,000,000 characters"):
        feed()
    assert sum(fed) < 8 * MAX_TEXT


@pytest.mark.parametrize(
    ("usage", "read_as"),
    [
        (None, Usage()),
        ({"prompt_tokens": 5, "completion_tokens": None}, Usage(prompt_tokens=5)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, Usage(9, 4)),
        ({"prompt_tokens": "many", "prompt_tokens_details": None}, Usage()),
        (
            {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(9, 4, 3, 2),
        ),
    ],
)
def test_tokens_are_counted_under_every_name(usage: Any, read_as: Usage) -> None:
    assert read(chat("Hi") | {"usage": usage}).usage == read_as
    assert read(stream([*PARTS, {"choices": [], "usage": usage}])).usage == read_as


KEYS = ["choices", "message", "delta", "content", "text", "error", "output", "type", "response"]
KEYS += ["finish_reason", "usage", "status", "model", "refusal"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(anything, st.booleans())
def test_any_body_is_a_completion_or_an_error(body: Any, is_stream: bool) -> None:
    with suppress(LLMError):
        assert isinstance(read(stream([body]) if is_stream else body).text, str)


@given(st.binary())
def test_any_bytes_are_a_completion_or_an_error(body: bytes) -> None:
    with suppress(LLMError):
        assert isinstance(read(body).text, str)
