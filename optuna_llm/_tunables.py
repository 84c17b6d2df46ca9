"""Numbers in a text that are marked as tunable: ``<<margin = 0.35 in 0.05..2 log>>``.

A *marked* text has markers, each with a value, and is what a model writes and is shown; its
*rendered* form has the values alone, and is what an objective gets.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
import math
import re
from typing import NamedTuple

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from optuna_llm._quoting import one_line


MAX_TUNABLES = 20
"""How many a text may have: more than an optimizer can find in the trials of a study."""

_MAX_NAME = 40
_MAX_CHOICES = 50
_MAX_SHOWN = 100
_MAX_INT = 2**53
"""Beyond it, a storage that keeps a number as a float would change it."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
# Strings with their quotes, or words as code has them: True, sum, np.mean.
_CHOICE = r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^\s,"'<>]+"""
_RANGE = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})(\s+log)?")
_MARKER = re.compile(
    rf"<<[ \t]*(?P<name>{_NAME})[ \t]*=[ \t]*(?P<value>{_CHOICE})[ \t]+in[ \t]+"
    rf"(?P<domain>{_NUMBER}[ \t]*\.\.[ \t]*{_NUMBER}(?:[ \t]+log)?"
    rf"|(?:{_CHOICE})(?:[ \t]*,[ \t]*(?:{_CHOICE}))*)[ \t]*>>"
)
# What begins like a marker, or holds a range as one does: never right in any common language.
_ALIKE = re.compile(rf"<<[ \t]*{_NAME}[ \t]*=(?!=)|<<[ \t]*{_NAME}\b[^<>\n=]{{0,200}}\.\.")
_CHOICES = re.compile(_CHOICE)
_PARAM = re.compile(rf"(.+)\.({_NAME})@(\d{{1,9}})")

_FORM = (
    "the form is <<margin = 0.35 in 0.05..2 log>>, <<n = 4 in 1..16>> or <<f = max in max, sum>>"
)


class TunableError(ValueError):
    """A marker that cannot be used, and how it is to be written."""


@dataclass(frozen=True)
class Tunable:
    """A number or a choice that is marked in a text.

    Attributes:
        name: Its name, once in a text.
        value: Its value: a number, or a choice as it is written, quotes included.
        distribution: The values that it may take.
        domain: These values as they are written.
        start: Where its marker begins.
        stop: Where it ends.
        at: Where its value begins and ends.
    """

    name: str
    value: float | int | str
    distribution: BaseDistribution
    domain: str
    start: int
    stop: int
    at: tuple[int, int]


class ParamName(NamedTuple):
    """What the name of an Optuna parameter tells of a tunable.

    Attributes:
        text: Name of the text.
        tunable: Name of the tunable in it.
        family: Number of the trial that introduced it.
    """

    text: str
    tunable: str
    family: int

    def __str__(self) -> str:
        return f"{self.text}.{self.tunable}@{self.family}"


def read_param_name(name: str) -> ParamName | None:
    """The tunable that a parameter of this name stands for; None if it cannot be one."""
    match = _PARAM.fullmatch(name)
    return None if match is None else ParamName(match[1], match[2], int(match[3]))


def find_tunables(text: str) -> list[Tunable]:
    """The tunables of a marked text, in the order in which they stand there.

    Raises:
        TunableError: If a marker is malformed, its value is out of its range, a name stands
            there twice, or there are too many.
    """
    if "<<" not in text:
        return []
    found: dict[str, Tunable] = {}
    end = 0
    while (alike := _ALIKE.search(text, end)) is not None:
        match = _MARKER.match(text, alike.start())
        if match is None:
            shown = one_line(text[alike.start() : alike.start() + _MAX_SHOWN].partition("\n")[0])
            raise TunableError(f"{shown!r} is no marker of a tunable: {_FORM}.")
        tunable = _read(match)
        if tunable.name in found:
            raise TunableError(
                f"{match[0]!r}: {tunable.name!r} is marked twice. Mark it once, and use what "
                "it is assigned to."
            )
        found[tunable.name] = tunable
        end = match.end()
    if len(found) > MAX_TUNABLES:
        raise TunableError(f"{len(found)} tunables are too many: mark {MAX_TUNABLES} at most.")
    return list(found.values())


def render(text: str) -> str:
    """A marked text as an objective gets it: each marker's value in its place.

    Raises:
        TunableError: As :func:`find_tunables`.
    """
    return _replace(text, lambda tunable, written: written)


def fill(text: str, values: Mapping[str, object]) -> str:
    """A marked text with other values; where one is the same, it stays as it is written.

    Args:
        text: The marked text.
        values: Values by name of the tunable; the others keep theirs.

    Raises:
        TunableError: As :func:`find_tunables`.
    """

    def write(tunable: Tunable, written: str) -> str:
        value = values.get(tunable.name, tunable.value)
        new = written if value == tunable.value else write_value(value)
        before = text[tunable.start : tunable.at[0]]
        return f"{before}{new}{text[tunable.at[1] : tunable.stop]}"

    return _replace(text, write)


def make_skeleton(text: str) -> str:
    """What marked texts share that differ in the values of their tunables only.

    Raises:
        TunableError: As :func:`find_tunables`.
    """
    return _replace(text, lambda tunable, _: f"<<{tunable.name} in {tunable.domain}>>")


def write_value(value: object) -> str:
    """A value as it stands in a text."""
    return value if isinstance(value, str) else repr(value)


def _replace(text: str, write: Callable[[Tunable, str], str]) -> str:
    parts = []
    end = 0
    for tunable in find_tunables(text):
        parts += [text[end : tunable.start], write(tunable, text[slice(*tunable.at)])]
        end = tunable.stop
    return "".join([*parts, text[end:]])


def _read(match: re.Match[str]) -> Tunable:
    name, written, domain = match["name"], match["value"], match["domain"]
    if len(name) > _MAX_NAME:
        raise TunableError(f"{name!r} is too long a name for a tunable: {_MAX_NAME} at most.")
    bounds = _RANGE.fullmatch(domain)
    value: float | int | str
    try:
        if bounds is None:
            value, distribution = _read_choices(written, domain)
        else:
            value, distribution = _read_range(written, *bounds.groups())
    except ValueError as error:
        raise TunableError(f"{match[0]!r}: {error}.") from None
    return Tunable(
        name, value, distribution, domain, match.start(), match.end(), match.span("value")
    )


def _read_choices(written: str, domain: str) -> tuple[str, BaseDistribution]:
    choices = tuple(_CHOICES.findall(domain))
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise ValueError("there must be two different choices or more, each once")
    if len(choices) > _MAX_CHOICES:
        raise ValueError(f"{len(choices)} choices are too many: {_MAX_CHOICES} at most")
    if written not in choices:
        raise ValueError(f"{written} is none of the choices {domain}")
    return written, CategoricalDistribution(choices)


def _read_range(
    written: str, lowest: str, highest: str, log: str | None
) -> tuple[float | int, BaseDistribution]:
    if not re.fullmatch(_NUMBER, written):
        raise ValueError(f"{written} is no number, but {lowest}..{highest} is a range of numbers")
    is_int = not any(set(number) & set(".eE") for number in (written, lowest, highest))
    value, low, high = ((int if is_int else float)(n) for n in (written, lowest, highest))
    if not all(map(math.isfinite, (value, low, high))):
        raise ValueError("its numbers must be finite")
    if is_int and max(abs(low), abs(high)) > _MAX_INT:
        raise ValueError("its numbers are too large")
    if low >= high:
        raise ValueError("the range must go from a lower to a higher number")
    if log and low <= 0:
        raise ValueError("a range on a log scale must begin above 0")
    if not low <= value <= high:
        raise ValueError(f"{written} is not within {lowest}..{highest}")
    if is_int:
        return value, IntDistribution(int(low), int(high), log=bool(log))
    return value, FloatDistribution(low, high, log=bool(log))
