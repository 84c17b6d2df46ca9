"""A rule-based stand-in for a language model, which reads the prompt as a model would."""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
import json
import math
import random
import re

from optuna.distributions import CategoricalDistribution

from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._records import ParamValue
from optuna_llm._study.distributions import describe_distribution
from optuna_llm._study.distributions import write_number
from optuna_llm._tunables import fill
from optuna_llm._tunables import find_tunables


_NUMBER_LINE = re.compile(
    r'^- ("(?:[^"\\]|\\.)*"): ((?:float|int) from|one of) (.*)$', re.MULTILINE
)
_RANGE = re.compile(r"(\S+) to ([^\s,]+)(, log scale)?(?:, in steps of (\S+))?")
_TEXT_LINE = re.compile(r'^<text name="([^"]*)">$', re.MULTILINE)
_TRIAL = re.compile(r"^## Trial (\d+)\b", re.MULTILINE)
_BEST = re.compile(r"^Propose trials? [^,\n]*, to beat trial (\d+)", re.MULTILINE)
_START = re.compile(r'^Start from "[^"\n]*" of trial (\d+)', re.MULTILINE)
_WANTED = re.compile(r"^Propose trials? (\d+)", re.MULTILINE)
_SEVERAL = re.compile(r"^Answer with (\d+) proposals", re.MULTILINE)
_RATING = re.compile(r"the score, a number from (\S+) to (\S+), in this form:\n<score>")
_REJECTED = "\n# Your last reply could not be used\n"
_MULTILINE = re.MULTILINE | re.DOTALL
_FEEDBACK = re.compile(r"\nfeedback:(?: [^\n]*|\n(`{3,})\n.*?\n\1)(?=\n)", re.DOTALL)
_MARKER = re.compile(r"<<\w+ *= *[^<>\n]* in [^<>\n]*>>")
_LITERAL = re.compile(r"(?<![\w.])\d+\.?\d*(?:[eE][-+]?\d+)?(?![\w.])")


class OfflineModel:
    """A rule-based stand-in: no language model, no key, no network.

    It takes the best trial that the prompt shows and changes some of its numbers, those of the
    number parameters and those that stand in the texts, widely at first and then closer. It
    shows that a study works, and is a baseline that a model must beat; it understands nothing,
    and as a judge of texts it rates by chance.

    .. code-block:: python

        LLMSampler(model="offline", seed=0)

    Args:
        seed: The same seed and prompt, feedback aside, give the same reply. None draws a seed.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = random.SystemRandom().getrandbits(32) if seed is None else seed

    def complete(self, messages: Sequence[Message]) -> Completion:
        """A proposal in the reply format, from nothing but the messages."""
        system, user = messages
        # Drawn from the prompt, so that a study continued in another process goes on the same;
        # but not from feedback, where tracebacks name the files of this machine.
        known = _FEEDBACK.sub("", user.content)
        digest = hashlib.sha256(f"{self._seed}\n{known}".encode("utf-8", "replace"))
        rng = random.Random(digest.digest())
        if scale := _RATING.search(system.content):
            score = rng.uniform(float(scale[1]), float(scale[2]))
            reason = "Stand-in model: it rates by chance."
            return Completion(f"{reason}\n<score>{score:.1f}</score>", "offline")
        wanted = _WANTED.search(user.content)
        # From a factor of about 2 in the first trials to a few percent after a hundred.
        width = max(0.04, 0.8 * 0.96 ** int(wanted[1] if wanted else 0))
        several = _SEVERAL.search(system.content)
        replies = [_propose(system.content, user.content, width, rng)]
        while several and len(replies) < int(several[1]):
            replies.append(_propose(system.content, user.content, width, rng))
        if several:
            replies = [f"<proposal>\n{reply}\n</proposal>" for reply in replies]
        return Completion("\n".join(replies), "offline")


def _propose(system: str, prompt: str, width: float, rng: random.Random) -> str:
    """One proposal in the reply format."""
    best = _find_numbers(prompt)
    parameters = {json.loads(m[1]): (m[2], m[3]) for m in _NUMBER_LINE.finditer(system)}
    texts = _TEXT_LINE.findall(system)
    # Few changes at a time are easier to be right with; at least one there must be.
    knobs = len(parameters) + len(texts)
    share = 1.0 if _REJECTED in prompt else 0.3
    chosen = {rng.randrange(knobs)} | {i for i in range(knobs) if rng.random() < share}
    lines = ["<rationale>Stand-in model: a random change of the best trial.</rationale>"]
    numbers = {
        name: _change_number(best.get(name), *words, width if i in chosen else 0.0, rng)
        for i, (name, words) in enumerate(parameters.items())
    }
    if numbers:
        lines.append(f"<numbers>{json.dumps(numbers)}</numbers>")
    for i, name in enumerate(texts, start=len(parameters)):
        text = _find_text(prompt, name)
        text = _change_text(text, width, share, rng) if i in chosen else text
        lines += [f'<text name="{name}">', text, "</text>"]
    return "\n".join(lines)


def _find_numbers(prompt: str) -> dict[str, ParamValue]:
    """The numbers to change: of the trial whose text is the start, else of the best."""
    start = _START.search(prompt) or _BEST.search(prompt)
    found = None
    if start is not None:
        trial = (
            rf"^## Trial {start[1]}\b.*\nnumbers: (.*)$|^- trial {start[1]}\b[^{{\n]*(\{{.*\}})"
        )
        found = re.search(trial, prompt, re.MULTILINE)
    numbers: dict[str, ParamValue] = json.loads((found[1] or found[2]) if found else "{}")
    return numbers


def _find_text(prompt: str, name: str) -> str:
    """The text to start from: in the request, or where the request points to."""
    begin = rf'^Start from (?:this )?"{re.escape(name)}"'
    if text := re.search(rf"{begin}[^\n]*:\n(`{{3,}})\n(.*?)\n\1$", prompt, _MULTILINE):
        return text[2]
    pointer = re.search(
        rf"{begin} of trial (\d+)[^\n]*; it is in full above(?: at trial (\d+))?",
        prompt,
        _MULTILINE,
    )
    if pointer is None:
        return ""
    number = pointer[2] or pointer[1]
    block = prompt[next(m.start() for m in _TRIAL.finditer(prompt) if m[1] == number) :]
    text = re.search(
        rf"^{re.escape(name)}(?:, made from trial \d+)?:\n(`{{3,}})\n(.*?)\n\1$", block, _MULTILINE
    )
    return text[2] if text else ""


def _change_number(
    value: ParamValue, kind: str, words: str, width: float, rng: random.Random
) -> ParamValue:
    """A value near the given one and within what the prompt says of the parameter."""
    if kind == "one of":
        choices: list[ParamValue] = json.loads(f"[{words}]")
        return rng.choice(choices) if value is None or rng.random() < width else value
    bounds = _RANGE.match(words)
    if bounds is None:
        return value
    low, high = float(bounds[1]), float(bounds[2])
    if bounds[3]:
        low, high = math.log(low), math.log(high)
    if isinstance(value, str) or value is None:
        at = rng.uniform(low, high)
    elif width:
        at = rng.gauss(math.log(value) if bounds[3] else value, width * (high - low) / 4)
    else:
        return value
    # Beyond a bound it is turned back: cut off there, half of all values would be the bound.
    at = 2 * low - at if at < low else 2 * high - at if at > high else at
    at = math.exp(at) if bounds[3] else at
    low, high = float(bounds[1]), float(bounds[2])
    step = float(bounds[4] or (1 if kind.startswith("int") else 0))
    if step:
        at = low + round((at - low) / step) * step
    at = min(max(at, low), high)
    return round(at) if kind.startswith("int") else at


def _change_text(text: str, width: float, share: float, rng: random.Random) -> str:
    """The text with some of its number literals changed; without any, with two words swapped.

    Where numbers are marked as tunable, these.
    """
    if _MARKER.search(text):
        return _change_markers(text, width, rng)
    literals = list(_LITERAL.finditer(text))
    if not literals:
        return _swap_words(text, 1 if share < 1 else 3, rng)
    chosen = {rng.randrange(len(literals))}
    chosen |= {i for i in range(len(literals)) if rng.random() < share}
    for i in sorted(chosen, reverse=True):
        begin, end = literals[i].span()
        text = text[:begin] + _change_literal(literals[i][0], width, rng) + text[end:]
    return text


def _change_markers(text: str, width: float, rng: random.Random) -> str:
    """The text with another value in each marker of a number."""
    values: dict[str, ParamValue] = {}
    for tunable in find_tunables(text):
        if not isinstance(tunable.distribution, CategoricalDistribution):
            kind, words = describe_distribution(tunable.distribution).split(" from ", 1)
            value = _change_number(tunable.value, kind, words, width, rng)
            values[tunable.name] = float(f"{value:.4g}") if kind == "float" else value
    return fill(text, values)


def _change_literal(literal: str, width: float, rng: random.Random) -> str:
    value = float(literal)
    changed = value * math.exp(rng.gauss(0, 1.5 * width)) if value else abs(rng.gauss(0, width))
    if not literal.isdigit():
        return write_number(float(f"{changed:.4g}"))
    whole = round(changed)
    if whole == int(literal):
        whole += rng.choice((-1, 1)) if whole else 1
    return str(whole)


def _swap_words(text: str, times: int, rng: random.Random) -> str:
    words = re.split(r"(\s+)", text)
    if len(words) < 3:
        return text + " " + text
    for _ in range(times):
        i, j = rng.sample(range(0, len(words), 2), 2)
        words[i], words[j] = words[j], words[i]
    return "".join(words)
