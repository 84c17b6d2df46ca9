"""What servers answer, in the wordings that users have reported."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from optuna_llm import ContextLengthError
from optuna_llm import LLMError
from optuna_llm import ModelSetupError
from optuna_llm import ReplyError
from optuna_llm.models._error_body import read_error
from optuna_llm.models._faults import CHAT
from optuna_llm.models._faults import explain_status
from optuna_llm.models._faults import RejectedError
from optuna_llm.models._faults import SYSTEM
from optuna_llm.models._faults import TransientError


SENT = ["temperature", "max_tokens", "seed", "top_k"]
WHOLE = [*SENT, SYSTEM, CHAT]


def explain(status: int, body: Any, sent: Any = (), **headers: str) -> LLMError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return explain_status(status, body, named, "server", sent)


def error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


TOO_LONG = {
    "OpenAI": (
        400,
        error(
            "This model's maximum context length is 8192 tokens. However, your messages resulted "
            "in 9000 tokens. Please reduce the length of the messages.",
            param="messages",
            code="context_length_exceeded",
        ),
    ),
    "OpenAI, a string": (
        400,
        error(
            "Invalid 'messages[1].content': string too long. Expected a string with maximum "
            "length 1048576, but got a string with length 2000000 instead.",
            param="messages[1].content",
            code="string_above_max_length",
        ),
    ),
    "OpenAI, above the minute's budget": (
        429,
        error("Request too large for m on tokens per min (TPM): Limit 30000, Requested 31000."),
    ),
    "Azure by code alone": (400, error("", code="context_length_exceeded")),
    "Groq": (
        413,
        error("Request too large for model `m`: Limit 6,000, Requested 6,800", type="t"),
    ),
    "Groq, as a rate limit": (
        429,
        error(
            "Rate limit reached on TPM: Limit 7000, Used 0, Requested ~12903. Try again in 50s."
        ),
    ),
    "Gemini": (
        400,
        [error("The input token count (132478) exceeds the maximum number of tokens allowed.")],
    ),
    "Gemini, wrapped twice": (
        400,
        error(json.dumps(error("The input token count exceeds the maximum number of tokens."))),
    ),
    "Vertex": (400, error("the input token count is 40000 but model only supports up to 32768")),
    "Anthropic": (400, error("prompt is too long: 208544 tokens > 200000 maximum")),
    "Anthropic, its size": (413, error("Request exceeds the maximum size", type="x")),
    "xAI": (
        400,
        {"error": "This model's maximum prompt length is 131072 but the request contains 136973."},
    ),
    "Mistral": (
        400,
        {"message": "Prompt contains 40000 tokens, too large for the model with 32768"},
    ),
    "Moonshot": (400, error("Invalid request: Your request exceeded model token limit: 8192")),
    "Qwen": (400, error("Range of input length should be [1, 30720]")),
    "Together": (422, error("`inputs` tokens + `max_new_tokens` must be <= 4097. Given: 4200")),
    "text-generation-inference": (
        422,
        {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1200"},
    ),
    "Fireworks": (400, error("The prompt is too long: 9000, model maximum context length: 8191")),
    "Cohere": (400, {"message": "too many tokens: total number of tokens cannot exceed 4081"}),
    "Bedrock": (400, {"message": "Input is too long for requested model."}),
    "Cloudflare": (
        400,
        {
            "errors": [
                {"message": "The tokens exceeded this model context window limit", "code": 1}
            ]
        },
    ),
    "GitHub Models": (
        413,
        error("Request body too large for m model. Max size: 8000 tokens.", code="tokens_limit"),
    ),
    "OpenRouter, the provider's words": (
        400,
        error("Provider returned error", metadata={"raw": '{"message":"prompt is too long"}'}),
    ),
    "vLLM": (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 2048 tokens.",
            "code": 400,
        },
    ),
    "llama.cpp": (
        500,
        error("the request exceeds the available context size. try increasing the context size"),
    ),
    "llama.cpp, late": (500, error("Context size has been exceeded.", type="server_error")),
    "llama-cpp-python": (400, error("Requested tokens (2285) exceed context window of 2048")),
    "LM Studio": (
        400,
        {
            "error": "Trying to keep the first 10136 tokens when context the overflows. However, "
            "the model is loaded with context length of only 4096 tokens"
        },
    ),
    "Ollama": (400, {"error": "the input length exceeds the context length"}),
    "MLX": (400, error("Prompt exceeds maximum context length")),
    "a proxy in front": (
        500,
        error("litellm.BadRequestError: OpenAIException - Error code: 400 - prompt is too long"),
    ),
    "nginx": (
        413,
        "<html><head><title>413 Request Entity Too Large</title></head><body></body></html>",
    ),
    "an empty 413": (413, ""),
    "a reply that would fit, were it not for the prompt": (
        400,
        error(
            "This model's maximum context length is 8192 tokens. However, you requested 9500 "
            "tokens (9000 in the messages, 500 in the completion)."
        ),
    ),
}


@pytest.mark.parametrize("server", TOO_LONG)
def test_a_prompt_too_long_is_told_from_all_other_errors(server: str) -> None:
    status, body = TOO_LONG[server]
    assert type(explain(status, body, WHOLE)) is ContextLengthError
    assert type(explain(status, json.dumps(body), WHOLE)) is ContextLengthError


REJECTED = {
    "by field": (error("seed or top_k", param="seed"), {"seed": None}),
    "by place": ({"detail": [{"loc": ["body", "seed"], "msg": "no"}]}, {"seed": None}),
    "by a path": (error("no", param="top_k.value"), {"top_k": None}),
    "in quotes": (error('json: unknown field "seed"'), {"seed": None}),
    "in backticks": (error("`temperature` is deprecated for this model."), {"temperature": None}),
    "unknown": (error("unknown: top_k"), {"top_k": None}),
    "unrecognized": ("Unrecognized request argument supplied: seed", {"seed": None}),
    "several": (
        error("Unrecognized request arguments supplied: seed, temperature"),
        {"temperature": None, "seed": None},
    ),
    "unsupported": ({"detail": "Unsupported parameter: temperature"}, {"temperature": None}),
    "not supported": (
        error("temperature is not supported with this model"),
        {"temperature": None},
    ),
    "incompatible": (
        error("Model incompatible request argument supplied: temperature"),
        {"temperature": None},
    ),
    "pydantic's text": (
        {"detail": "body -> seed\n  Extra inputs are not permitted (type=extra_forbidden)"},
        {"seed": None},
    ),
    "before a colon": (error("temperature: range: 0..1"), {"temperature": None}),
    "after a colon": (
        {"code": "invalid", "error": "Argument not supported on this model: seed"},
        {"seed": None},
    ),
    "in another spelling": (error("Argument not supported on this model: topK"), {"top_k": None}),
    "LiteLLM": (
        error("UnsupportedParamsError: m does not support parameters: ['temperature']"),
        {"temperature": None},
    ),
    "Gemini": (
        [error('Invalid JSON payload received. Unknown name "seed": Cannot find field.')],
        {"seed": None},
    ),
    "one of two": (
        error("`temperature` and `top_k` cannot both be specified. Use only one."),
        {"top_k": None},
    ),
    "another name": (
        "use max_completion_tokens, not max_tokens",
        {"max_tokens": "max_completion_tokens"},
    ),
    "another name, by field": (
        error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            param="max_tokens",
        ),
        {"max_tokens": "max_completion_tokens"},
    ),
    "a value": (
        error("Unsupported value: 'temperature' does not support 0.2.", param="temperature"),
        {"temperature": None},
    ),
    "in a list": ([error("no", param="temperature")], {"temperature": None}),
    "too many output tokens": (
        error("max_tokens is too large: 99999. This model supports at most 16384."),
        {"max_tokens": None},
    ),
    "too many beside the prompt": (
        error(
            "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum "
            "context length is 8192 tokens and your request has 500 input tokens."
        ),
        {"max_tokens": None},
    ),
    "too many beside the prompt, vLLM": (
        error(
            "This model's maximum context length is 131,072 tokens. However, you requested "
            "128,000 output tokens and your prompt contains at least 3,073 input tokens. "
            "(parameter=input_tokens, value=3073)"
        ),
        {"max_tokens": None},
    ),
    "too many beside the prompt, Anthropic": (
        error("input length and `max_tokens` exceed context limit: 90402 + 116650 > 204648"),
        {"max_tokens": None},
    ),
    "too many in the completion": (
        error(
            "This model's maximum context length is 4097 tokens. However, you requested 4120 "
            "tokens (3120 in the messages, 1000 in the completion)."
        ),
        {"max_tokens": None},
    ),
    "an upstream error in a 500": (
        error("Error code: 400 - Unsupported parameter: 'temperature'"),
        {"temperature": None},
    ),
}


@pytest.mark.parametrize("words", REJECTED)
def test_the_parameter_that_is_blamed_is_found(words: str) -> None:
    body, names = REJECTED[words]
    fault = explain(500 if "500" in words else 400, body, SENT)
    assert isinstance(fault, RejectedError)
    assert fault.names == names


WORDS = ["user", "stop", "n", "seed", "store", "model", "tools", "logprobs", "metadata"]


@pytest.mark.parametrize(
    "message",
    [
        "The user message is invalid; stop.",
        "Please stop sending invalid requests, user.",
        "n must not be read as an option of the seed store",
        "The model gpt-9 does not exist, or you have no access to it.",
        "We could not parse the JSON body of your request: metadata missing?",
        "No tools for this user: contact support to unlock the store.",
    ],
)
def test_a_word_is_no_parameter(message: str) -> None:
    fault = explain(400, error(message), [word for word in WORDS if word != "n"])
    assert type(fault) is ModelSetupError


def test_what_the_server_repeats_of_the_request_blames_nothing() -> None:
    echo = "context length, 'temperature' and system role not supported"
    body = {"detail": [{"loc": ["body", "model"], "msg": "no such model", "input": echo}]}
    assert type(explain(422, body, WHOLE)) is ModelSetupError


SYSTEM_REFUSED = [
    (400, {"object": "error", "message": "System role not supported", "code": 400}),
    (400, error("Conversation roles must alternate user/assistant/user/assistant/...")),
    (400, [error("Developer instruction is not enabled for models/gemma-3-27b-it")]),
    (400, error("Unsupported value: 'messages[0].role' does not support 'system'", param="m[0]")),
    (500, error("Jinja Exception: System role not supported", type="server_error")),
    (422, {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Input should be 'user'"}]}),
    (400, error("Only user and assistant roles are supported!")),
    (400, error("This model does not support system messages")),
    (400, error("Invalid role: system")),
]


@pytest.mark.parametrize(("status", "body"), SYSTEM_REFUSED)
def test_a_refused_system_role_is_recognized(status: int, body: Any) -> None:
    fault = explain(status, body, WHOLE)
    assert isinstance(fault, RejectedError)
    assert fault.names == {SYSTEM: None}
    # Where it is folded already, there is nothing left to do.
    assert not isinstance(explain(status, body, SENT), RejectedError)


OTHER_API = [
    (404, "This model is only supported in v1/responses and not in v1/chat/completions."),
    (
        404,
        "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did "
        "you mean to use v1/completions?",
    ),
    (400, "The chatCompletion operation does not work with the specified model, m."),
    (400, "Use the Responses API for this model."),
]


@pytest.mark.parametrize(("status", "message"), OTHER_API)
def test_a_model_of_the_other_api_is_recognized(status: int, message: str) -> None:
    fault = explain(status, error(message, param="model"), WHOLE)
    assert isinstance(fault, RejectedError)
    assert fault.names == {CHAT: "responses"}
    assert type(explain(status, error(message, param="model"), SENT)) is ModelSetupError


REFUSED = [
    (400, error("filtered", code="content_filter")),
    (403, error('m requires moderation. Your input was flagged for "violence".')),
    (400, error("Invalid prompt: your prompt was flagged as violating our usage policy.")),
    (400, error("Content Exists Risk")),
    (400, error("Input data may contain inappropriate content.", code="data_inspection_failed")),
    (403, {"error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}),
    (400, error("The response was filtered by the content management policy.")),
    (400, error("Tool choice is none, but model called a tool", code="tool_use_failed")),
    (400, error("Failed to generate JSON.", code="json_validate_failed")),
    (500, {"error": "error parsing tool call: raw='{'"}),
]


@pytest.mark.parametrize(("status", "body"), REFUSED)
def test_a_filter_and_a_slip_of_the_model_are_replies_that_cannot_be_used(
    status: int, body: Any
) -> None:
    assert type(explain(status, body, WHOLE)) is ReplyError


FOR_GOOD = [
    (401, error("Incorrect API key provided")),
    (402, error("Insufficient credits")),
    (403, error("Your account was suspended: its content was flagged.")),
    (403, error("Access to this model is denied.")),
    (404, error("model 'm' not found, try pulling it first")),
    (405, "Method Not Allowed"),
    (400, "no"),
    (429, error("quota", code="insufficient_quota")),
    (400, error("Your credit balance is too low to access the API.")),
    (501, "Unsupported method ('POST')"),
]


@pytest.mark.parametrize(("status", "body"), FOR_GOOD)
def test_what_waiting_does_not_mend_is_an_error_of_the_setup(status: int, body: Any) -> None:
    assert type(explain(status, body, WHOLE)) is ModelSetupError


TEMPORARY: list[tuple[int, Any, dict[str, str]]] = [
    (429, error("slow down"), {}),
    (429, error("Rate limit: Limit 7000, Used 5000, Requested 3000. Try again in 2s."), {}),
    (
        429,
        error("exceeds your rate limit of 20,000 input tokens per minute; reduce the prompt"),
        {},
    ),
    (402, error("in flight budget"), {"retry_after": "3"}),
    (408, None, {}),
    (424, error("failed dependency"), {}),
    (498, error("Flex tier capacity exceeded"), {}),
    (500, error("unexpected tokens remaining in message header"), {}),
    (503, {"error": "Model m is currently loading", "estimated_time": 20.0}, {}),
    (529, "<html>", {}),
]


@pytest.mark.parametrize(("status", "body", "headers"), TEMPORARY)
def test_what_passes_is_waited_for(status: int, body: Any, headers: dict[str, str]) -> None:
    assert type(explain(status, body, WHOLE, **headers)) is TransientError


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (error("x", code=502), 502),
        (error("x", code="429"), 429),
        ({"object": "error", "message": "x", "code": 400}, 400),
        (error("x", status=503), 503),
        ({"error": "Unexpected endpoint or method. (POST /chat/completions)"}, 404),
        ({"detail": "Not Found"}, 404),
        (error("x", type="invalid_request_error"), 400),
        (error("x", type="authentication_error"), 401),
        (error("x", type="rate_limit_error"), 429),
        (error("x", type="overloaded_error"), 503),
        ([error("x", status="RESOURCE_EXHAUSTED")], 429),
        (error("x", status="INVALID_ARGUMENT"), 400),
        (error("the provider failed"), 500),
    ],
)
def test_an_error_with_status_200_says_what_it_would_have_been(body: Any, status: int) -> None:
    assert read_error(body).status == status


json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(SENT),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "param", "loc", "code"]) | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(
    st.integers(400, 599),
    json_bodies,
    st.lists(st.sampled_from(SENT), unique=True),
    st.dictionaries(st.sampled_from(["retry_after", "retry_after_ms"]), st.text()),
)
def test_any_answer_is_an_error_that_can_be_acted_on(
    status: int, body: Any, sent: list[str], headers: dict[str, str]
) -> None:
    fault = explain(status, body, sent, **headers)
    assert str(fault)
    assert len(str(fault)) < 1_000
    if isinstance(fault, RejectedError):
        # Something goes away each time, so that it ends.
        assert fault.names
        assert fault.names.keys() <= set(sent)
    if isinstance(fault, TransientError):
        assert fault.retry_after >= 0
