"""Reading a response's body: JSON or a stream of events, chat completion or response."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import json
from typing import Any

from optuna_llm._errors import ReplyError
from optuna_llm._quoting import shorten
from optuna_llm._records import Completion
from optuna_llm._records import Usage
from optuna_llm.models._error_body import MAX_SAID
from optuna_llm.models._error_body import read_error
from optuna_llm.models._faults import explain_error
from optuna_llm.models._faults import TransientError
from optuna_llm.models._faults import UnreachableError


MAX_TEXT = 1_000_000
"""Characters of a reply; a longer one is refused."""

# JSON writes a character as up to six bytes.
_MAX_BODY = 6 * MAX_TEXT + 100_000
_STREAM_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_LONGEST_FIELD = 6
_CUT = ("length", "max_tokens", "max_output_tokens", "model_context_window_exceeded")
_FILTERED = ("content_filter", "safety", "prohibited_content", "blocklist", "recitation", "spii")
_FAILED = ("error", "abort", "aborted", "insufficient_system_resource", "network_error")
_TOO_LONG = f"the reply was longer than {MAX_TEXT:,} characters: be much shorter."


class CompletionReader:
    """Reads one response, fed in pieces of any size.

    Whether a body is JSON or a stream of events is told by its beginning: some servers stream
    though not asked to, others do not though asked.

    Args:
        server: The server's name, for messages.
        sent: What the request held, for judging an error; see
            :func:`~optuna_llm.models._faults.explain_status`.
        redact: Takes the secrets out of a text.
    """

    def __init__(self, server: str, sent: list[str], redact: Callable[[str], str] = str) -> None:
        self._server = server
        self._sent = sent
        self._redact = redact
        self._buffer = bytearray()
        self._is_stream: bool | None = None
        self._lines: list[bytes] = []
        self._answer = _Answer(redact)
        self._is_done = False

    def feed(self, piece: bytes) -> None:
        """Read a piece of the body.

        Raises:
            ReplyError: If the reply is too long, or the model refused.
            ModelError: If the body holds an error.
        """
        self._buffer += piece
        if self._is_stream is None:
            start = bytes(self._buffer[:64]).lstrip(b"\xef\xbb\xbf \t\r\n")
            if len(start) < _LONGEST_FIELD:
                return
            self._is_stream = start.startswith(_STREAM_FIELDS)
            if self._is_stream:
                self._buffer = self._buffer.lstrip(b"\xef\xbb\xbf \t\r\n")
        if self._is_stream:
            *lines, self._buffer = self._buffer.split(b"\n")
            for line in lines:
                self._read_line(bytes(line).rstrip(b"\r"))
        if len(self._buffer) + sum(map(len, self._lines)) > _MAX_BODY:
            raise ReplyError(_TOO_LONG)

    def finish(self) -> Completion:
        """The completion, once the body has ended.

        Raises:
            ReplyError: If the model gave no answer on purpose.
            ModelError: If the body holds none.
        """
        if self._is_stream:
            self._read_line(bytes(self._buffer))
            self._read_line(b"")
            if not self._is_done and not self._answer.finish:
                raise TransientError(f"{self._server}: the stream ended before the reply did.")
        else:
            for event in self._decode_values(self._buffer.decode("utf-8", "replace")):
                self._read_event(event)
        if not self._answer.is_found:
            raise self._no_completion(bytes(self._buffer))
        return self._answer.complete(self._server)

    def _read_line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if line.startswith(b"{"):
            self._lines.append(line)
        elif name == b"data":
            self._lines.append(value.strip())
        elif not line and self._lines:
            data, self._lines = b"\n".join(self._lines), []
            if data == b"[DONE]":
                self._is_done = True
                return
            for event in self._decode_values(data.decode("utf-8", "replace")):
                self._read_event(event)

    def _decode_values(self, text: str) -> Iterator[Any]:
        """The JSON values that stand one after another; what else there is has no meaning."""
        decoder = json.JSONDecoder()
        position = 1 if text.startswith("\ufeff") else 0  # A byte order mark.
        while True:
            while text[position : position + 1].isspace():
                position += 1
            try:
                value, position = decoder.raw_decode(text, position)
            except (ValueError, RecursionError):
                return
            yield value

    def _read_event(self, event: Any) -> None:
        if isinstance(event, list) and len(event) == 1:
            event = event[0]  # Gemini's way with errors.
        if not isinstance(event, Mapping):
            return
        if isinstance(event.get("response"), Mapping):
            event = event["response"]  # The last event of a streamed response holds all of it.
        if _is_error(event):
            body = read_error(event, self._redact)
            raise explain_error(body.status, body, {}, self._server, self._sent)
        self._answer.add(event)

    def _no_completion(self, body: bytes) -> UnreachableError:
        said = read_error(body, self._redact).message or "nothing"
        return UnreachableError(
            f"{self._server} sent no chat completion: {shorten(said, MAX_SAID)}"
        )


class _Answer:
    """What has been read of a model's answer."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self.is_found = False
        self.finish = ""
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._length = 0
        self._n_thought = 0
        self._refusal = ""
        self._has_tool_call = False
        self._is_empty = True
        self._model: str | None = None
        self._usage: Any = None
        self._block_reason = ""

    def add(self, event: Mapping[str, Any]) -> None:
        """Read a whole answer, or what a stream adds to it."""
        if isinstance(event.get("model"), str):
            self._model = event["model"]
        if isinstance(event.get("usage"), Mapping):
            self._usage = event["usage"]
        if event.get("type") == "response.output_text.delta":
            self._add_text(event.get("delta"))
        elif isinstance(event.get("output"), list):
            self._add_response(event)
        elif "choices" in event:
            self._add_choice(event)

    def complete(self, server: str) -> Completion:
        """The completion.

        Raises:
            ReplyError: If the model or a filter refused.
            TransientError: If the server says that it failed.
        """
        if self.finish in _FAILED:
            raise TransientError(f"{server} failed while it wrote the reply.")
        text = "".join(self._texts)
        is_cut = self.finish in _CUT
        if not text.strip():
            self._check_refusal()
            # Some servers take an answer that follows no thought for a thought itself.
            if not is_cut and self._thoughts:
                text = "".join(self._thoughts)
        return Completion(text, self._model, read_usage(self._usage), is_cut)

    def _check_refusal(self) -> None:
        if self._refusal:
            raise ReplyError(f"you refused: {shorten(self._redact(self._refusal), MAX_SAID)}")
        if self._has_tool_call or "function_call" in self.finish or self.finish == "tool_calls":
            raise ReplyError("you called a tool; there is none: answer in text.")
        if self.finish in _FILTERED:
            raise ReplyError("the reply was taken away by a content filter.")
        if self._is_empty:
            reason = f": {self._block_reason}" if self._block_reason else "."
            raise ReplyError(f"the prompt was blocked, and there is no reply{reason}")

    def _add_choice(self, event: Mapping[str, Any]) -> None:
        choices = event["choices"]
        if not choices:
            self.is_found = True
            feedback = event.get("prompt_feedback") or event.get("promptFeedback") or ""
            self._block_reason = shorten(self._redact(str(feedback)), MAX_SAID)
            return
        choice = choices[0] if isinstance(choices, list) else None
        if not isinstance(choice, Mapping):
            return
        message = choice.get("message") or choice.get("delta")
        finish = choice.get("finish_reason")
        if isinstance(finish, str):
            self.finish = finish.lower()
        if isinstance(message, Mapping):
            self._add_message(message)
        elif isinstance(choice.get("text"), str):
            self._add_text(choice["text"])
        elif not self.finish:
            return
        self.is_found = True
        self._is_empty = False

    def _add_message(self, message: Mapping[str, Any]) -> None:
        self._add_text(_read_content(message.get("content")))
        for name in ("reasoning_content", "reasoning", "thinking"):
            thought = message.get(name)
            if isinstance(thought, str) and thought:
                self._add_thought(thought)
                break
        if isinstance(message.get("refusal"), str):
            self._refusal += message["refusal"]
        if message.get("tool_calls") or message.get("function_call"):
            self._has_tool_call = True

    def _add_response(self, event: Mapping[str, Any]) -> None:
        """Read a response of the Responses API, which holds all that was streamed before."""
        status = event.get("status")
        details = event.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, Mapping) else None
        if status in ("queued", "in_progress"):
            return
        self.finish = str(reason or status or "").lower()
        if status in ("failed", "cancelled"):
            self.finish = "error"
        self.is_found = True
        self._is_empty = False
        items = [item for item in event["output"] if isinstance(item, Mapping)]
        messages = [item for item in items if item.get("type") in ("message", None)]
        if messages:
            self._texts, self._length = [], 0
        for item in messages:
            self._add_text(_read_content(item.get("content")))
            parts = item.get("content")
            for part in parts if isinstance(parts, list) else []:
                if isinstance(part, Mapping) and isinstance(part.get("refusal"), str):
                    self._refusal += part["refusal"]
        self._has_tool_call = any(str(item.get("type")).endswith("_call") for item in items)

    def _add_text(self, text: Any) -> None:
        if not isinstance(text, str) or not text:
            return
        self._texts.append(text)
        self._length += len(text)
        if self._length > MAX_TEXT:
            raise ReplyError(_TOO_LONG)

    def _add_thought(self, thought: str) -> None:
        if self._n_thought < MAX_TEXT:
            self._thoughts.append(thought[:MAX_TEXT])
            self._n_thought += len(thought)


def read_usage(usage: Any) -> Usage:
    """The token counts, under the names that OpenAI's two APIs, DeepSeek and others use."""
    prompt = _part(usage, "prompt_tokens_details") or _part(usage, "input_tokens_details")
    output = _part(usage, "completion_tokens_details") or _part(usage, "output_tokens_details")
    return Usage(
        prompt_tokens=_count(usage, "prompt_tokens") or _count(usage, "input_tokens"),
        cached_tokens=_count(prompt, "cached_tokens")
        or _count(usage, "prompt_cache_hit_tokens")
        or _count(usage, "cache_read_input_tokens")
        or _count(usage, "cached_tokens"),
        completion_tokens=_count(usage, "completion_tokens") or _count(usage, "output_tokens"),
        reasoning_tokens=_count(output, "reasoning_tokens"),
    )


def _is_error(event: Mapping[str, Any]) -> bool:
    if event.get("error") or event.get("object") == "error" or event.get("type") == "error":
        return True
    choices = event.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        return bool(choices[0].get("error"))
    is_answer = "choices" in event or "output" in event or "type" in event
    return not is_answer and any(event.get(key) for key in ("detail", "errors", "message"))


def _read_content(content: Any) -> str:
    """The text of a message's content, be it a string or parts; thoughts are no text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_read_content, content))
    if not isinstance(content, Mapping):
        return ""
    if content.get("type", "text") not in ("text", "output_text"):
        return ""
    text = content.get("text")
    if isinstance(text, Mapping):
        text = text.get("value")
    return text if isinstance(text, str) else ""


def _part(usage: object, name: str) -> object:
    return usage.get(name) if isinstance(usage, Mapping) else None


def _count(counts: object, name: str) -> int:
    """A token count; 0 where the server sends none, or something else."""
    value = _part(counts, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
