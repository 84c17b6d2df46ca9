"""What is sent for a call, and how it changes after what a server rejects."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
import hashlib
import math
from typing import Any
from typing import Literal
from typing import TypeAlias

from optuna_llm._images import Image
from optuna_llm._images import MAX_IMAGES
from optuna_llm._records import Message
from optuna_llm._secrets import is_public_header
from optuna_llm.models._faults import CHAT
from optuna_llm.models._faults import IMAGES
from optuna_llm.models._faults import SCHEMA
from optuna_llm.models._faults import SYSTEM


Api: TypeAlias = Literal["chat", "responses"]

TAKES_TURNS = ("temperature", "reasoning_effort")
"""Parameters that may be sequences of values, which proposals take turns in."""

_NESTED_TURNS = ("reasoning", "effort")
"""Where the Responses API has the second of them."""

# Arguments of the client's that are no parameters of the model.
_TRANSPORT = ("extra_headers", "extra_query")
# Names that differ between the two APIs; a dot leads into an object.
_RESPONSES_NAMES = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
}
_MAX_REPLY = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_OWN = "prompt_cache_key"
_FORMAT = "response_format"
# How a JSON schema can be sent, the next where a server rejects one. Hosted services, vLLM,
# Ollama, LM Studio and llama.cpp take the first, some of them not strictly; llama-cpp-python's
# server, Together and older versions of llama.cpp take the last.
_STRICT, _LOOSE, _OBJECT = "json_schema, strict", "json_schema", "json_object with a schema"
_SCHEMA_FORMS = (_STRICT, _LOOSE, _OBJECT)


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        api: The API it is sent to.
        arguments: The arguments of the client's ``create``.
        sent: The names of what it holds that a server could do without.
    """

    api: Api
    arguments: Mapping[str, Any]
    sent: list[str]


@dataclass(frozen=True)
class RequestForm:
    """How messages become a request.

    Attributes:
        api: The API it is sent to.
        parameters: What is sent beside model and messages.
        transport: Headers and query that are sent with it.
        stream: Whether the reply is asked for as a stream of events.
        folds_system: Whether the system message is sent as a part of the user message.
        has_cache_key: Whether a ``prompt_cache_key`` tells which requests begin alike.
        max_images: How many images are sent at most; None for all.
        schema_forms: The ways to send a JSON schema that have not been rejected, the next first.
        adaptations: What was changed after the server's words: a parameter's name, ``system``,
            ``images`` or ``api`` to what became of it.
    """

    api: Api
    parameters: Mapping[str, Any]
    transport: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    folds_system: bool = False
    has_cache_key: bool = False
    max_images: int | None = None
    schema_forms: Sequence[str] = _SCHEMA_FORMS
    adaptations: Mapping[str, str] = field(default_factory=dict)

    @property
    def takes_schema(self) -> bool:
        """Whether a JSON schema can be sent: the user has set no format, the server takes one."""
        return bool(self.schema_forms) and self._read_format() is None

    def _read_format(self) -> Any:
        """The format of the reply that the user has set; None without any."""
        text = self.parameters.get("text") or {}
        return self.parameters.get(_FORMAT) if self.api == "chat" else text.get("format")

    def _name_parts(self, *, has_schema: bool) -> list[str]:
        names = list(self.parameters)
        if has_schema:
            names.append(SCHEMA)
        if self.stream:
            names += ["stream", "stream_options"]
        if self.has_cache_key:
            names.append(_OWN)
        if not self.folds_system:
            names.append(SYSTEM)
        if self.api == "chat":
            names.append(CHAT)
        return names

    def limit_images(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages with as many images as are sent."""
        if self.max_images is None:
            return messages
        return [message.limit_images(self.max_images) for message in messages]

    def render(
        self,
        model: str,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None = None,
    ) -> Request:
        """The request to a model.

        Args:
            model: Its name.
            messages: The messages.
            schema: A JSON schema for the reply, sent if it can be.
        """
        messages = self.limit_images(messages)
        images = tuple(image for message in messages for image in message.images)
        body = dict(self.parameters)
        has_schema = schema is not None and self.takes_schema
        if schema is not None and has_schema:
            body |= self._render_schema(schema)
        if self.stream:
            body["stream"] = True
        if self.stream and self.api == "chat" and "stream_options" not in self.adaptations:
            # Else no tokens are counted.
            body.setdefault("stream_options", {"include_usage": True})
        if self.has_cache_key and _OWN not in body:
            body[_OWN] = hashlib.sha256(messages[0].content.encode()).hexdigest()[:32]
        if self.folds_system:
            text = "\n\n".join(message.content for message in messages)
            messages = [Message("user", text, images)]
        # Past the client's signature: it does not know what other servers do.
        arguments: dict[str, Any] = {"model": model, "extra_body": body, **self.transport}
        if self.api == "chat":
            arguments["messages"] = [message.to_dict() for message in messages]
        else:
            for name, role in (("instructions", "system"), ("input", "user")):
                contents = [m.content for m in messages if m.role == role]
                if contents:
                    arguments[name] = "\n\n".join(contents)
            if images:
                arguments["input"] = _write_input(arguments["input"], images)
        sent = self._name_parts(has_schema=has_schema) + [IMAGES] * bool(images)
        return Request(self.api, arguments, sent)

    def _render_schema(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        form = self.schema_forms[0]
        named = {"name": "reply", "schema": schema, "strict": form == _STRICT}
        if self.api == "responses":
            wanted = {"type": "json_schema", **named}
            return {"text": {**(self.parameters.get("text") or {}), "format": wanted}}
        if form == _OBJECT:
            return {_FORMAT: {"type": "json_object", "schema": schema}}
        return {_FORMAT: {"type": "json_schema", "json_schema": named}}

    def adapt(
        self, names: Mapping[str, str | None], sent: RequestForm
    ) -> tuple[RequestForm, dict[str, str]]:
        """The form without what the server rejects, and what changed: name to verdict.

        Nothing has changed if another thread was faster.

        Args:
            names: What it rejects, each with the name to send it by instead.
            sent: The form of the request that it rejects.
        """
        form = self
        for name, other in names.items():
            is_schema = name == SCHEMA
            form = form._adapt_schema(sent) if is_schema else form._adapt_one(name, other)
        changed = {
            name: verdict
            for name, verdict in form.adaptations.items()
            if self.adaptations.get(name) != verdict
        }
        return form, changed

    def use_responses(self) -> RequestForm:
        """The form for the Responses API, with parameters under their names there."""
        parameters: dict[str, Any] = {}
        noted: dict[str, str] = {}
        for name, value in self.parameters.items():
            outer, _, inner = _RESPONSES_NAMES.get(name, name).partition(".")
            if inner:
                value = {**(parameters.get(outer) or {}), inner: value}
            parameters[outer] = value
            if outer != name:
                noted[name] = f"sent as {_RESPONSES_NAMES[name]}"
        # Chat completions are not stored by default, responses are.
        parameters.setdefault("store", False)
        return replace(
            self,
            api="responses",
            parameters=parameters,
            adaptations={**self.adaptations, **noted},
        )

    def without_secrets(self) -> RequestForm:
        """The form as it may be pickled: without headers and query that can hold secrets."""
        headers = self.transport.get("extra_headers") or {}
        public = {name: value for name, value in headers.items() if is_public_header(name)}
        return replace(self, transport={"extra_headers": public} if public else {})

    def _adapt_schema(self, sent: RequestForm) -> RequestForm:
        # Another thread may have been faster, and there are further ways to send it.
        if self.schema_forms != sent.schema_forms:
            return self
        left = self.schema_forms[1:]
        verdict = f"sent as {left[0]}" if left else "left out"
        return replace(self, schema_forms=left).note(_FORMAT, verdict)

    def _adapt_one(self, name: str, other: str | None) -> RequestForm:
        if name == CHAT and self.api == "chat":
            return self.use_responses().note("api", "responses")
        if name == SYSTEM and not self.folds_system:
            return replace(self, folds_system=True).note(SYSTEM, "folded into the user message")
        if name == IMAGES:
            return self._limit_images(int(other or 0))
        if name == "stream":
            verdict = "left out" if self.stream else "turned on"
            return replace(self, stream=not self.stream).note(name, verdict)
        if name == "stream_options" and name not in self.parameters:
            return self.note(name, "left out")
        if name == _OWN and self.has_cache_key:
            return replace(self, has_cache_key=False).note(name, "left out")
        if name not in self.parameters:
            return self
        parameters = dict(self.parameters)
        value = parameters.pop(name)
        if other is None or other in self.adaptations:
            return replace(self, parameters=parameters).note(name, "left out")
        parameters[other] = value
        return replace(self, parameters=parameters).note(name, f"sent as {other}")

    def _limit_images(self, count: int) -> RequestForm:
        if count >= MAX_IMAGES:
            count = 0  # So many were never sent: it is for another reason that they are refused.
        if self.max_images is not None and self.max_images <= count:
            return self
        verdict = f"limited to {count}" if count else "left out"
        return replace(self, max_images=count).note(IMAGES, verdict)

    def note(self, name: str, verdict: str) -> RequestForm:
        return replace(self, adaptations={**self.adaptations, name: verdict})


def make_form(
    api: Api, parameters: Mapping[str, Any], *, stream: bool, has_cache_key: bool
) -> RequestForm:
    """The form of a model's first request.

    Args:
        api: The API.
        parameters: What the user gave for ``create``.
        stream: Whether to stream.
        has_cache_key: Whether to send a ``prompt_cache_key``.
    """
    given = {name: value for name, value in parameters.items() if not _is_omitted(value)}
    transport = {name: given.pop(name) for name in _TRANSPORT if name in given}
    extra = given.pop("extra_body", None) or {}
    form = RequestForm(
        "chat", {**given, **extra}, transport, stream=stream, has_cache_key=has_cache_key
    )
    return form if api != "responses" else form.use_responses()


def find_max_reply(form: RequestForm) -> float:
    """Tokens that a reply may have at most, as far as the user has said."""
    given = [form.parameters.get(name) for name in _MAX_REPLY]
    return min((float(g) for g in given if isinstance(g, int | float)), default=math.inf)


def take_turn(form: RequestForm, turn: int) -> RequestForm:
    """The form with one value of each sequence, the next for the next turn."""
    outer, inner = _NESTED_TURNS
    parameters = {
        name: _pick(value, turn) if name in TAKES_TURNS else value
        for name, value in form.parameters.items()
    }
    nested = parameters.get(outer)
    if isinstance(nested, Mapping) and inner in nested:
        parameters[outer] = {**nested, inner: _pick(nested[inner], turn)}
    return form if parameters == form.parameters else replace(form, parameters=parameters)


def _pick(value: Any, turn: int) -> Any:
    return value[turn % len(value)] if isinstance(value, list | tuple) and value else value


def _write_input(text: str, images: Sequence[Image]) -> list[dict[str, Any]]:
    """A user message with images, as the Responses API takes it."""
    parts = [{"type": "input_text", "text": text}]
    parts += [{"type": "input_image", "image_url": image.url} for image in images]
    return [{"role": "user", "content": parts}]


def _is_omitted(value: object) -> bool:
    """Whether it is the client's mark for an argument that is not given."""
    return type(value).__name__ in ("NotGiven", "Omit")
