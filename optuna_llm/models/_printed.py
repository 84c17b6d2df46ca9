"""Reading what a command prints: a reply as it is, or the JSON of a known coding agent.

Known are the object of ``claude -p --output-format json`` and the lines of ``stream-json``, the
object of ``gemini --output-format json``, and the lines of ``codex exec --json``.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import json
import re
from typing import Any

from optuna_llm._quoting import one_line
from optuna_llm._records import Completion
from optuna_llm._records import Usage


_CONTROL_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])"
)
_MAX_SAID = 1_000


class CommandFailure(Exception):
    """The command has printed that it failed; the message says why."""


def read_printed(output: str) -> Completion:
    """The reply that a command has printed.

    Raises:
        CommandFailure: If it has printed an error in a known form.
    """
    events = list(_read_events(output))
    for read in (_read_claude, _read_gemini, _read_codex):
        completion = read(events)
        if completion is not None:
            return completion
    return Completion(_CONTROL_SEQUENCE.sub("", output).strip("\r\n"))


def _read_events(output: str) -> Iterable[Mapping[str, Any]]:
    """The objects that the output consists of; nothing where it is no JSON."""
    if not output.lstrip().startswith(("{", "[")):
        return []
    try:
        found = json.loads(output)
    except (ValueError, RecursionError):
        try:
            found = [json.loads(line) for line in output.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            return []
    return [
        event for event in (found if isinstance(found, list) else [found]) if _is_object(event)
    ]


def _read_claude(events: Iterable[Mapping[str, Any]]) -> Completion | None:
    """The result of Claude Code, which is its last event."""
    for event in events:
        if event.get("type") != "result" or "is_error" not in event:
            continue
        result = event.get("result")
        if event["is_error"] or not isinstance(result, str):
            raise _make_failure(result or event.get("errors") or event.get("subtype"))
        usage = _part(event, "usage")
        cached = _count(usage, "cache_read_input_tokens")
        sent = _count(usage, "input_tokens") + _count(usage, "cache_creation_input_tokens")
        tokens = Usage(
            # Unlike others, it does not count what was cached among the tokens sent.
            prompt_tokens=sent + cached,
            cached_tokens=cached,
            completion_tokens=_count(usage, "output_tokens"),
        )
        return Completion(
            result, _find_largest(_part(event, "modelUsage"), "outputTokens"), tokens
        )
    return None


def _read_gemini(events: Iterable[Mapping[str, Any]]) -> Completion | None:
    """The object that Gemini CLI prints."""
    for event in events:
        if not {"response", "error"} & event.keys() or not {"stats", "session_id"} & event.keys():
            continue
        if event.get("error"):
            raise _make_failure(event["error"])
        response = event.get("response")
        if not isinstance(response, str):
            continue
        models = _part(_part(event, "stats"), "models")
        counts = {name: _part(_part(models, name), "tokens") for name in models}
        tokens = sum(map(_count_gemini, counts.values()), Usage())
        return Completion(response, _find_largest(counts, "candidates"), tokens)
    return None


def _count_gemini(counts: Mapping[str, Any]) -> Usage:
    thoughts = _count(counts, "thoughts")
    return Usage(
        prompt_tokens=_count(counts, "prompt"),
        cached_tokens=_count(counts, "cached"),
        completion_tokens=_count(counts, "candidates") + thoughts,
        reasoning_tokens=thoughts,
    )


def _read_codex(events: Iterable[Mapping[str, Any]]) -> Completion | None:
    """The last message among the events of Codex CLI, and the tokens of all turns."""
    text: str | None = None
    trouble: Any = None
    usage = Usage()
    for event in events:
        kind = event.get("type")
        if kind == "turn.failed":
            raise _make_failure(event.get("error"))
        if kind == "error":  # Also said of what it then gets over, such as a lost connection.
            trouble = event
        if kind == "turn.completed":
            usage += _count_codex(_part(event, "usage"))
        item = _part(event, "item")
        if kind == "item.completed" and item.get("type") == "agent_message":
            text = item["text"] if isinstance(item.get("text"), str) else text
    if text is None and trouble is not None:
        raise _make_failure(trouble)
    return None if text is None else Completion(text, None, usage)


def _count_codex(counts: Mapping[str, Any]) -> Usage:
    return Usage(
        prompt_tokens=_count(counts, "input_tokens"),
        cached_tokens=_count(counts, "cached_input_tokens"),
        completion_tokens=_count(counts, "output_tokens"),
        reasoning_tokens=_count(counts, "reasoning_output_tokens"),
    )


def _find_largest(models: Mapping[str, Any], name: str) -> str | None:
    """The model with the largest count of this name: agents ask small ones beside the main one."""
    return max(models, key=lambda model: _count(_part(models, model), name), default=None)


def _make_failure(said: Any) -> CommandFailure:
    if _is_object(said):
        said = said.get("message") or dict(said)
    return CommandFailure(one_line(str(said or "it did not say why"), _MAX_SAID))


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object within an object; empty where there is something else."""
    value = found.get(name)
    return value if isinstance(value, Mapping) else {}


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
