"""Functions to optimize, and models that propose points of them, from an oracle to noise."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import itertools
import math
import random
from typing import Any
from typing import TypeAlias

import optuna
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution


Point: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Landscape:
    """A function whose lowest value is 0.

    Attributes:
        space: All parameters that a point may have.
        value: The value of a point, without noise.
        noise: Standard deviation of what is measured.
        active: The names that a point has, given its values; all of them by default.
    """

    space: Mapping[str, BaseDistribution]
    value: Callable[[Point], float]
    noise: float = 0.0
    active: Callable[[Point], Sequence[str]] | None = None

    def evaluate(self, trial: optuna.Trial, rng: random.Random) -> float:
        """What an objective measures."""
        point: Point = {}
        while missing := [name for name in self.list_active(point) if name not in point]:
            point[missing[0]] = _suggest(trial, missing[0], self.space[missing[0]])
        return self.value(point) + rng.gauss(0, self.noise)

    def list_active(self, point: Point) -> Sequence[str]:
        return list(self.space) if self.active is None else self.active(point)


def _suggest(trial: optuna.Trial, name: str, distribution: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    suggest: Any = trial.suggest_float
    if isinstance(distribution, IntDistribution):
        suggest = trial.suggest_int
    return suggest(name, distribution.low, distribution.high, log=distribution.log)


def floats(count: int, low: float = -5.0, high: float = 5.0) -> dict[str, BaseDistribution]:
    return {f"x{i}": FloatDistribution(low, high) for i in range(count)}


AT = (1.3, -2.1, 3.2, -0.7, 2.4, -3.6)
"""Where the lowest value is."""


def moved(point: Point) -> list[float]:
    return [point[f"x{i}"] - AT[i] for i in range(len(AT)) if f"x{i}" in point]


def sphere(point: Point) -> float:
    return sum((i + 1) * x * x for i, x in enumerate(moved(point)))


def valley(point: Point) -> float:
    xs = [x / 2 + 1 for x in moved(point)]
    pairs = itertools.pairwise(xs)
    return math.sqrt(sum(20 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairs))


def waves(point: Point) -> float:
    return sum(x * x + 6 * (1 - math.cos(2.2 * x)) for x in moved(point))


def ridge(point: Point) -> float:
    xs = moved(point)
    mean = sum(xs) / len(xs)
    return sum((x - mean) ** 2 for x in xs) * 5 + abs(mean)


KINDS = ("a", "b", "c", "d", "e")
RATES = {"rate": FloatDistribution(1e-5, 1.0, log=True), "momentum": FloatDistribution(0.0, 0.99)}


def mixed(point: Point) -> float:
    far = {"a": 3.0, "b": 2.0, "c": 0.0, "d": 4.0, "e": 1.0}[point["kind"]]
    return sphere(point) / 3 + far * 2 + abs(point["n"] - 13) / 4


def training(point: Point) -> float:
    rate = math.log10(point["rate"]) + 2.6 + point["momentum"]
    return 3 * rate * rate + 4 * (point["momentum"] - 0.83) ** 2 + (point["layers"] - 5) ** 2 / 8


def branches(point: Point) -> float:
    if point["kind"] == "forest":
        return 1.2 + abs(point["depth"] - 9) / 10
    if point["kind"] == "linear":
        return 1.4 + abs(math.log10(point["penalty"]) + 1) / 4
    rate = math.log10(point["rate"]) + 2.0
    return rate * rate / 2 + abs(point["width"] - 150) / 200 + (point["momentum"] - 0.6) ** 2


def find_branch(point: Point) -> Sequence[str]:
    rest = {"forest": ["depth"], "linear": ["penalty"], "net": ["rate", "width", "momentum"]}
    return ["kind", *rest.get(point.get("kind", ""), [])]


BRANCHES = {
    "kind": CategoricalDistribution(("forest", "linear", "net")),
    "depth": IntDistribution(1, 20),
    "penalty": FloatDistribution(1e-4, 1e3, log=True),
    "width": IntDistribution(8, 512),
    **RATES,
}
LANDSCAPES: dict[str, Landscape] = {
    "sphere, 4 floats": Landscape(floats(4), sphere),
    "valley, 4 floats": Landscape(floats(4), valley),
    "waves, 6 floats": Landscape(floats(6), waves),
    "ridge, 5 floats": Landscape(floats(5), ridge),
    "sphere, noisy": Landscape(floats(4), sphere, 2.0),
    "mixed": Landscape(
        {**floats(3), "kind": CategoricalDistribution(KINDS), "n": IntDistribution(1, 30)}, mixed
    ),
    "training, noisy": Landscape({**RATES, "layers": IntDistribution(1, 12)}, training, 0.05),
    "conditional": Landscape(BRANCHES, branches, active=find_branch),
}


def draw(space: Mapping[str, BaseDistribution], rng: random.Random) -> Point:
    return {name: _move(d, None, 1.0, rng) for name, d in space.items()}


def _to_unit(distribution: Any, value: float) -> float:
    if distribution.log:
        value = math.log(value / distribution.low)
        return value / math.log(distribution.high / distribution.low)
    return (value - distribution.low) / (distribution.high - distribution.low)


def from_unit(distribution: Any, unit: float) -> Any:
    unit = min(1.0, max(0.0, unit))
    if distribution.log:
        value = distribution.low * (distribution.high / distribution.low) ** unit
    else:
        value = distribution.low + unit * (distribution.high - distribution.low)
    value = min(distribution.high, max(distribution.low, value))
    return round(value) if isinstance(distribution, IntDistribution) else value


def _move(distribution: Any, value: Any, size: float, rng: random.Random) -> Any:
    """A value near another one; without one, any."""
    if isinstance(distribution, CategoricalDistribution):
        is_kept = value is not None and rng.random() > size
        return value if is_kept else rng.choice(distribution.choices)
    unit = rng.random() if value is None else _to_unit(distribution, value) + rng.gauss(0, size)
    return from_unit(distribution, unit)


class Walker:
    """A model that looks for better points near the best; the larger its steps adapt, the better.

    Args:
        landscape: The function.
        rng: Its draws.
        size: Its first step as a share of each range; None proposes at random.
        adapts: Whether steps grow with success and shrink with failure.
        sees: Whether it knows the slope.
        doubt: How often it proposes at random instead.
    """

    def __init__(
        self,
        landscape: Landscape,
        rng: random.Random,
        size: float | None,
        *,
        adapts: bool = False,
        sees: bool = False,
        doubt: float = 0.0,
    ) -> None:
        self._landscape = landscape
        self._rng = rng
        self._size = size
        self._adapts = adapts
        self._sees = sees
        self._doubt = doubt
        self._best = math.inf
        self._n_own = 0

    def propose(self, trials: Sequence[tuple[float, Point]]) -> Point:
        """A point, after these values and points of all trials so far."""
        space = self._landscape.space
        if self._size is None or not trials or self._rng.random() < self._doubt:
            return draw(space, self._rng)
        value, best = min(trials, key=lambda trial: trial[0])
        if self._adapts and self._n_own:
            self._size *= 1.5 if value < self._best else 0.87
            self._size = min(0.3, max(1e-4, self._size))
        self._best, self._n_own = value, self._n_own + 1
        whole = {**draw(space, self._rng), **best}
        if self._sees:
            return self._descend(whole)
        return {n: _move(d, whole[n], self._size, self._rng) for n, d in space.items()}

    def _descend(self, point: Point) -> Point:
        """A step down the slope, choices and whole numbers included, with a little doubt."""
        assert self._size is not None
        value, space = self._landscape.value, self._landscape.space
        slope: dict[str, float] = {}
        moved = dict(point)
        for name, distribution in space.items():
            if isinstance(distribution, CategoricalDistribution):
                if self._rng.random() < 0.3:
                    moved[name] = min(
                        distribution.choices, key=lambda c: value({**point, name: c})
                    )
                continue
            unit = _to_unit(distribution, point[name])
            width = 0.05 if isinstance(distribution, IntDistribution) else 1e-4
            up, down = (
                value({**point, name: from_unit(distribution, unit + d)}) for d in (width, -width)
            )
            slope[name] = (up - down) / (2 * width)
        length = math.sqrt(sum(s * s for s in slope.values())) or 1.0
        for name, s in slope.items():
            unit = _to_unit(space[name], point[name]) - self._size * s / length
            unit += self._rng.gauss(0, self._size / 5)
            moved[name] = from_unit(space[name], unit)
        return moved


STRENGTHS: dict[str, dict[str, Any]] = {
    "oracle": {"size": 0.15, "adapts": True, "sees": True},
    "good": {"size": 0.15, "adapts": True},
    "timid": {"size": 0.02},
    "random": {"size": None},
}
