"""Number parameters in words: ranges described, values written, values read and checked."""

from __future__ import annotations

from collections.abc import Sequence
import json
import math
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from optuna_llm._errors import ReplyError
from optuna_llm._records import ParamValue


_DIGITS = 7
"""Significant digits of a float as it is shown."""


def write_number(value: Any, digits: int = _DIGITS) -> str:
    """The value as JSON, floats rounded to so many significant digits.

    A value is accepted as it is written here, even where rounding took it out of its range.
    """
    if isinstance(value, float) and math.isfinite(value):
        return json.dumps(_round(value, digits))
    if value is None or isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)
    # Optuna allows other choices in memory: their repr is what can be shown of them.
    return json.dumps(repr(value), ensure_ascii=False)


def write_apart(before: Any, now: Any) -> tuple[str, str]:
    """The same of two values, floats to as many digits as tell them apart."""
    digits = _DIGITS
    if isinstance(before, float) and isinstance(now, float):
        digits = digits_to_tell((before, now), _DIGITS)
    return write_number(before, digits), write_number(now, digits)


def digits_to_tell(values: Sequence[float], least: int = 6) -> int:
    """How many significant digits tell the values apart."""
    different = len(set(values))
    for digits in range(least, 17):
        if len({f"{value:.{digits}g}" for value in values}) == different:
            return digits
    return 17


def _round(value: float, digits: int = _DIGITS) -> float:
    return float(f"{value:.{digits}g}")


def describe_distribution(distribution: BaseDistribution) -> str:
    """The distribution in a few words, bounds to the last digit."""
    if isinstance(distribution, CategoricalDistribution):
        return "one of " + ", ".join(write_number(choice) for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    kind = "int" if isinstance(distribution, IntDistribution) else "float"
    words = f"{kind} from {distribution.low!r} to {distribution.high!r}"
    if distribution.log:
        words += ", log scale"
    if distribution.step not in (None, 1) or (kind == "float" and distribution.step):
        words += f", in steps of {distribution.step!r}"
    return words


def count_values(distribution: BaseDistribution) -> float:
    """How many values the distribution can take; infinity for a continuous one."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.step is None:
        return math.inf
    return round((distribution.high - distribution.low) / distribution.step) + 1


def read_number(name: str, raw: Any, distribution: BaseDistribution) -> ParamValue:
    """The value that a reply gives for a parameter, as a plain Python value in its range.

    Args:
        name: The parameter's name, for the error.
        raw: What the reply's JSON holds for it; a number may stand in a string.
        distribution: What the value must fit.

    Raises:
        ReplyError: If it is of the wrong type, out of range or off its steps.
    """
    if isinstance(raw, int):
        try:
            float(raw)
        except OverflowError:
            raise _refusal(name, raw, describe_distribution(distribution)) from None
    if isinstance(distribution, CategoricalDistribution):
        return _read_choice(name, raw, distribution)
    if isinstance(distribution, IntDistribution):
        return _read_int(name, raw, distribution)
    assert isinstance(distribution, FloatDistribution)
    return _read_float(name, raw, distribution)


def _read_choice(name: str, raw: Any, distribution: CategoricalDistribution) -> ParamValue:
    exact = [c for c in distribution.choices if type(c) is type(raw) and c == raw]
    if exact:
        return exact[0]
    written = write_number(raw)
    alike = [
        choice
        for choice in distribution.choices
        if written == write_number(choice) or _same_number(raw, choice)
    ]
    if len(alike) == 1:
        return alike[0]
    spelled = [c for c in distribution.choices if raw in (str(c), write_number(c))]
    if len(spelled) == 1:
        return spelled[0]
    raise _refusal(name, raw, describe_distribution(distribution))


def _same_number(raw: Any, choice: Any) -> bool:
    """Whether 1 and 1.0 meet; True and 1, alike to Python, do not."""
    numeric = (int, float)
    if isinstance(raw, bool) or isinstance(choice, bool):
        return False
    return isinstance(raw, numeric) and isinstance(choice, numeric) and raw == choice


def _read_int(name: str, raw: Any, distribution: IntDistribution) -> int:
    wanted = describe_distribution(distribution)
    number = _to_number(name, raw, wanted)
    if isinstance(number, float):
        if not number.is_integer():
            raise _refusal(name, raw, wanted)
        number = int(number)
    # Compared as integers: a float comparison overflows beyond 1e308.
    low, high, step = distribution.low, distribution.high, distribution.step
    if not low <= number <= high:
        raise _refusal(name, raw, wanted)
    if (number - low) % step:
        below = number - (number - low) % step
        raise _refusal(name, raw, f"{wanted}; next to it are {below} and {below + step}")
    return number


def _read_float(name: str, raw: Any, distribution: FloatDistribution) -> float:
    wanted = describe_distribution(distribution)
    number = _to_number(name, raw, wanted)
    low, high, step = distribution.low, distribution.high, distribution.step
    bound = min(max(number, low), high)
    if number != bound and number != _round(bound):
        raise _refusal(name, raw, wanted)
    if step is None:
        return float(bound)
    steps = round((bound - low) / step)
    on_step = min(max(low + steps * step, low), high)
    # The tolerance is Optuna's own (FloatDistribution._contains).
    if abs((number - low) / step - steps) >= 1e-8 and number != _round(on_step):
        raise _refusal(name, raw, f"{wanted}; next to it is {write_number(on_step)}")
    # 0.3 rather than 3 * 0.1, where that counts as on the step as well.
    rounded = float(f"{number:.12g}")
    return rounded if distribution._contains(rounded) else on_step


def _to_number(name: str, raw: Any, wanted: str) -> int | float:
    """The finite number in ``raw``, be it a number or a string that spells one."""
    if isinstance(raw, str):
        for convert in (int, float):
            try:
                raw = convert(raw)
                break
            except ValueError:
                continue
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise _refusal(name, raw, wanted)
    if isinstance(raw, float) and not math.isfinite(raw):
        raise _refusal(name, raw, wanted)
    return raw


def _refusal(name: str, raw: Any, wanted: str) -> ReplyError:
    try:
        given = json.dumps(raw, ensure_ascii=False, default=repr)
    except ValueError:  # An int beyond Python's limit on digits.
        given = "a number of thousands of digits"
    if len(given) > 60:
        given = f"{given[:40]}… ({len(given)} characters)"
    return ReplyError(f'parameter "{name}": {given} is not allowed; it must be {wanted}.')
