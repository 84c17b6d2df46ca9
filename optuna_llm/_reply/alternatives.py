"""What a reply may hold besides values or in place of them: a pass, a repeat, insights."""

from __future__ import annotations

import re

from optuna_llm._errors import ReplyError
from optuna_llm._quoting import one_line
from optuna_llm._records import Pass


_MAX_INSIGHTS = 6
_MAX_LINE = 300

# What candidates wrote, or thoughts: what looks like a tag inside of it is none.
_VALUES = ("text", "edit", "numbers", "proposal")
_WORDS = ("rationale", "insights")
_THOUGHTS = re.compile(r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]", re.IGNORECASE)
_REPEAT = re.compile(r"<repeat\s+trial\s*=\s*[\"']?(\d{1,9})[\"']?\s*/?>", re.IGNORECASE)


def find_alternative(reply: str) -> Pass | int | None:
    """A pass, or the number of the trial to be measured again; None if the reply holds values.

    Raises:
        ReplyError: If it holds two of these.
    """
    if "<pass" not in (lower := reply.lower()) and "<repeat" not in lower:
        return None
    answer = reply[max((m.end() for m in _THOUGHTS.finditer(reply)), default=0) :]
    has_values = False
    for tag in _VALUES:
        rest = _remove(answer, tag)
        has_values = has_values or rest != answer
        answer = rest
    reasons = _find_blocks(answer, "rationale")
    for tag in _WORDS:
        answer = _remove(answer, tag)
    repeats = {int(number) for number in _REPEAT.findall(answer)}
    passes = _find_blocks(answer, "pass")
    if len(repeats) + bool(passes) + has_values > 1:
        raise ReplyError("the reply holds more than one of values, <repeat> and <pass>: send one.")
    if passes:
        return Pass(one_line(passes[0] or "".join(reasons), _MAX_LINE))
    return repeats.pop() if repeats else None


def take_rationales(reply: str) -> list[str]:
    """What stands in a reply's <rationale> blocks."""
    return _find_blocks(reply, "rationale")


def parse_insights(reply: str) -> list[str]:
    """The lines of a reply's <insights>; none where it has no such block."""
    blocks = _find_blocks(reply, "insights")
    lines = blocks[-1].splitlines() if blocks else []
    said = [one_line(line.strip().lstrip("-*•0123456789. "), _MAX_LINE) for line in lines]
    return [line for line in said if line and line != "…"][:_MAX_INSIGHTS]


def _find_blocks(source: str, tag: str) -> list[str]:
    """What stands between the first opening tag and its closing one, and so on."""
    lower = source.lower()
    blocks = []
    position = 0
    while (start := lower.find(f"<{tag}>", position)) >= 0:
        end = lower.find(f"</{tag}>", start)
        if end < 0:
            break
        blocks.append(source[start + len(tag) + 2 : end].strip())
        position = end
    return blocks


def _remove(source: str, tag: str) -> str:
    """The source without all from the first opening of a tag to its last closing."""
    lower = source.lower()
    start = lower.find(f"<{tag}")
    end = lower.rfind(f"</{tag}>")
    return source if start < 0 or end < start else source[:start] + source[end + len(tag) + 3 :]
