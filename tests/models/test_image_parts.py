"""Images over real HTTP: how they are sent, and what follows when a server refuses them."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import pickle
from typing import Any

from images import make_png
import optuna
from optuna.artifacts import FileSystemArtifactStore
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request
from werkzeug import Response

from optuna_llm import ContextLengthError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelSetupError
from optuna_llm import OpenAIModel
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm._images import Image
from optuna_llm._images import list_images
from optuna_llm.models._error_body import read_error
from optuna_llm.models._faults import explain_status
from optuna_llm.models._faults import IMAGES as PART
from optuna_llm.models._faults import RejectedError
from optuna_llm.models._faults import SYSTEM
from optuna_llm.models._image_refusals import blames_images
from optuna_llm.testing import write_reply


IMAGES = tuple(Image(make_png(i), "image/png", f"trial {i}") for i in range(3))
MESSAGES = (
    Message("system", "Be brief."),
    Message("user", f"Look.\n{list_images(IMAGES)}", IMAGES),
)
HIDDEN = "Look.\n\nimages: 3, not shown\n"

Answer = Callable[[dict[str, Any]], tuple[int, Any]]


def serve(server: HTTPServer, answer: Answer, route: str = "chat/completions") -> list[Any]:
    """Have a server answer, and return the bodies of what it is sent."""
    bodies: list[Any] = []

    def respond(request: Request) -> Response:
        bodies.append(json.loads(request.get_data()))
        status, body = answer(bodies[-1])
        return Response(json.dumps(body), status, mimetype="application/json")

    server.expect_request(f"/v1/{route}").respond_with_handler(respond)
    return bodies


def say(text: str) -> tuple[int, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 3_000, "completion_tokens": 5}
    return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


def count_images(body: dict[str, Any]) -> int:
    return json.dumps(body).count('"image_url": {')


def connect(server: HTTPServer, **arguments: Any) -> OpenAIModel:
    return OpenAIModel("m", base_url=server.url_for("/v1"), **arguments)


def test_chat_completions_get_parts_after_the_text(server: HTTPServer) -> None:
    bodies = serve(server, lambda _: say("Seen."))
    assert connect(server).complete(MESSAGES).text == "Seen."
    system, user = bodies[0]["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"][0] == {"type": "text", "text": MESSAGES[1].content}
    assert user["content"][1:] == [
        {"type": "image_url", "image_url": {"url": image.url}} for image in IMAGES
    ]


def test_the_responses_api_gets_its_own_parts(server: HTTPServer) -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "Seen."}]}]
    bodies = serve(server, lambda _: (200, {"output": output, "status": "completed"}), "responses")
    model = connect(server, api="responses")
    assert model.complete(MESSAGES).text == "Seen."
    assert model.complete((Message("user", "Hi"),)).text == "Seen."
    assert bodies[0]["instructions"] == "Be brief."
    (message,) = bodies[0]["input"]
    assert message["content"][0] == {"type": "input_text", "text": MESSAGES[1].content}
    assert message["content"][1] == {"type": "input_image", "image_url": IMAGES[0].url}
    assert len(message["content"]) == 4
    assert bodies[1]["input"] == "Hi"


def test_images_stay_where_the_system_message_is_folded(server: HTTPServer) -> None:
    refusal = {"error": {"message": "System role not supported"}}

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return (400, refusal) if len(body["messages"]) > 1 else say("Seen.")

    bodies = serve(server, answer)
    assert connect(server).complete(MESSAGES).text == "Seen."
    (message,) = bodies[1]["messages"]
    assert message["content"][0]["text"] == f"Be brief.\n\n{MESSAGES[1].content}"
    assert count_images(bodies[1]) == 3


def test_a_server_that_refuses_images_gets_a_line_from_then_on(server: HTTPServer) -> None:
    refusal = {"error": {"message": "Invalid content type. image_url is only supported by some."}}
    bodies = serve(server, lambda b: (400, refusal) if count_images(b) else say("Read."))
    model = connect(server)
    assert model.takes_images
    for _ in range(2):
        assert model.complete(MESSAGES).text == "Read."
    assert [count_images(body) for body in bodies] == [3, 0, 0]
    assert [body["messages"][1]["content"] for body in bodies[1:]] == [HIDDEN] * 2
    assert model.adaptations == {"images": "left out"}
    assert not model.takes_images
    assert not pickle.loads(pickle.dumps(model)).takes_images


def test_a_server_that_takes_fewer_images_gets_fewer(server: HTTPServer) -> None:
    refusal = {"message": "At most 2 image(s) may be provided in one request.", "code": 400}
    bodies = serve(server, lambda b: (400, refusal) if count_images(b) > 2 else say("Seen."))
    model = connect(server)
    assert model.complete(MESSAGES).text == "Seen."
    text = bodies[1]["messages"][1]["content"][0]["text"]
    assert text.endswith("- image 2: trial 1\n\nimages: 1, not shown\n")
    assert count_images(bodies[1]) == 2
    assert model.adaptations == {"images": "limited to 2"}
    assert model.takes_images


def test_a_study_goes_on_without_images_and_says_so(server: HTTPServer, tmp_path: Path) -> None:
    refusal = {"error": {"message": "image input is not supported", "type": "server_error"}}
    lengths = iter(range(6, 20))

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if count_images(body):
            return 500, refusal
        return say(write_reply(texts={"drawing": "x" * next(lengths)}))

    def objective(trial: optuna.Trial) -> float:
        report_feedback(trial, "", images=[make_png(trial.number)])
        return float(len(suggest_text(trial, "drawing", "start")))

    bodies = serve(server, answer)
    sampler = LLMSampler(
        model=connect(server, patience=0), artifact_store=FileSystemArtifactStore(tmp_path)
    )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(objective, n_trials=4)
    assert [trial.value for trial in study.trials] == [5, 6, 7, 8]
    assert [count_images(body) for body in bodies] == [1, 0, 0, 0]
    assert all(body["messages"][1]["content"].endswith(", not shown\n") for body in bodies[1:])
    assert study.user_attrs["llm:adaptations"] == {"m": {"images": "left out"}}


@pytest.mark.parametrize(("n_characters", "n_asked"), [(500, 2), (50_000, 1)])
def test_a_prompt_that_is_too_long_loses_images_only_if_they_are_most_of_it(
    n_characters: int, n_asked: int, server: HTTPServer
) -> None:
    refusal = {"error": {"message": "too long", "code": "context_length_exceeded"}}
    bodies = serve(server, lambda b: (400, refusal) if count_images(b) else say("Read."))
    messages = (MESSAGES[0], Message("user", "x" * n_characters, IMAGES))
    model = connect(server)
    if n_asked == 2:
        assert model.complete(messages).text == "Read."
    else:
        with pytest.raises(ContextLengthError):
            model.complete(messages)
    assert len(bodies) == n_asked


def test_what_images_do_not_explain_is_an_error_after_one_more_try(server: HTTPServer) -> None:
    bodies = serve(server, lambda _: (400, {"error": {"message": "no such model: m"}}))
    with pytest.raises(ModelSetupError, match="no such model"):
        connect(server).complete(MESSAGES)
    assert [count_images(body) for body in bodies] == [3, 0]


def test_the_tokens_of_images_do_not_make_a_later_prompt_look_cut(
    server: HTTPServer, logs: pytest.LogCaptureFixture
) -> None:
    serve(server, lambda _: say("Seen."))
    model = connect(server)
    long = "x" * 7_000
    model.complete((MESSAGES[0], Message("user", long, IMAGES)))
    model.complete((MESSAGES[0], Message("user", long * 2)))
    assert "truncated" not in logs.text


REFUSALS: dict[str, tuple[int, Any]] = {
    "OpenAI": (
        400,
        {
            "error": {
                "message": "Invalid content type. image_url is only supported by certain models.",
                "type": "invalid_request_error",
                "param": "messages.[1].content.[1].type",
            }
        },
    ),
    "OpenAI, a broken image": (400, {"error": {"message": "", "code": "image_parse_error"}}),
    "DeepSeek": (
        400,
        {
            "error": {
                "message": "Failed to deserialize the JSON body into the target type: messages[1]:"
                " unknown variant `image_url`, expected `text` at line 1 column 114708"
            }
        },
    ),
    "DeepSeek, before": (
        422,
        "Failed to deserialize the JSON body into the target type: messages[1]: data did not match"
        " any variant of untagged enum ChatCompletionRequestContent at line 1 column 18231",
    ),
    "a server in Rust": (422, "messages[1]: invalid type: sequence, expected a string at line 1"),
    "Groq": (400, {"error": {"message": "messages[1].content must be a string"}}),
    "Groq, before": (
        400,
        {
            "error": {
                "message": "'messages.1' : for 'role:user' the following must be satisfied"
                "[('messages.1.content' : value must be a string)]"
            }
        },
    ),
    "OpenRouter": (
        404,
        {"error": {"message": "No endpoints found that support image input", "code": 404}},
    ),
    "Mistral": (400, {"message": "Image input is not enabled for this model", "type": "x"}),
    "vLLM": (400, {"message": "m is not a multimodal model", "code": 400}),
    "vLLM, in its own words": (500, {"message": "m does not support image input", "code": 500}),
    "llama.cpp": (
        500,
        {
            "error": {
                "code": 500,
                "message": "image input is not supported - hint: if this is unexpected, you may "
                "need to provide the mmproj",
            }
        },
    ),
    "llama.cpp, before": (
        500,
        {
            "error": {
                "message": 'Failed to parse messages: Unsupported content part type: "image_url"; '
                'messages = [{"role": "user", "content": "temperature is not supported"}]'
            }
        },
    ),
    "LM Studio": (
        400,
        {"error": "Model does not support images. Please use a model that does."},
    ),
    "Ollama": (500, {"error": {"message": "this model is missing data required for image input"}}),
    "Infini": (400, "Bad Request: [message type 'image_url' is not supported for model 'glm-5']"),
    "Anthropic": (
        400,
        {"error": {"message": "messages.1.content.1.image.source.base64: image exceeds 5 MB"}},
    ),
    "FastAPI": (
        422,
        {
            "detail": [
                {
                    "loc": ["body", "messages", 1, "user", "content", "str"],
                    "msg": "Input should be a valid string",
                }
            ]
        },
    ),
    "a proxy with a limit": (413, "<html><h1>413 Request Entity Too Large</h1></html>"),
    "a typed refusal": (415, {"error": {"message": "Unsupported media"}}),
    "in no words": (400, {"error": {"message": "Bad request"}}),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_of_images_is_told_from_its_words(name: str) -> None:
    status, body = REFUSALS[name]
    fault = explain_status(status, body, {}, "server", ["temperature", SYSTEM, PART])
    assert isinstance(fault, RejectedError), fault
    assert fault.names == {PART: None}
    without = explain_status(status, body, {}, "server", [SYSTEM])
    assert not isinstance(without, RejectedError) or PART not in without.names


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("At most 1 image(s) may be provided in one request.", "1"),
        ("Too many images provided. This model supports up to 5 images", "5"),
        ("too many images in the message, max allowed is 16", "16"),
        ("The request contains too many images: the model supports a maximum of 2 images.", "2"),
        ("Too much media: 0 document pages + 103 images > 100", "100"),
        ("At most 0 image(s) may be provided in one prompt.", None),
    ],
)
def test_too_many_images_are_told_from_none_at_all(words: str, limit: str | None) -> None:
    fault = explain_status(400, {"error": {"message": words}}, {}, "server", [SYSTEM, PART])
    assert isinstance(fault, RejectedError)
    assert fault.names == {PART: limit}


@pytest.mark.parametrize(
    ("status", "words", "names"),
    [
        (400, "Unsupported value: 'temperature' does not support 0.5.", {"temperature": None}),
        (400, "unknown field: top_k; see the vision guide", {"top_k": None}),
        (400, "System role not supported", {SYSTEM: None}),
    ],
)
def test_what_else_is_refused_does_not_cost_the_images(
    status: int, words: str, names: dict[str, str | None]
) -> None:
    body = {"error": {"message": words}}
    fault = explain_status(status, body, {}, "server", ["temperature", "top_k", SYSTEM, PART])
    assert isinstance(fault, RejectedError)
    assert fault.names == names


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, "Rate limit reached for images per minute"),
        (401, "image access is not supported with this key"),
        (404, "The model `vision-8b` does not exist"),
        (503, "The vision encoder is overloaded"),
        (500, "Internal error"),
    ],
)
def test_other_troubles_of_a_server_do_not_cost_the_images(status: int, words: str) -> None:
    body = {"error": {"message": words}}
    assert not isinstance(explain_status(status, body, {}, "server", [PART]), RejectedError)
    if status in (404, 503):
        assert not blames_images(read_error(body))
