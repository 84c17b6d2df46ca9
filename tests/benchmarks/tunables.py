"""What tuning the constants of a program saves, in calls to a model and in evaluations.

A hidden problem has several structures, each better than the one before if its two to six
constants are right. A scripted model proposes the next structure in one call of five, with
constants drawn at random. Else it changes two constants of the best program: a model that
*draws* takes any, one that *shifts* them goes a little up or down. Once its programs are tuned,
and once it alone decides the constants. What is printed is how many evaluations and calls it takes
to the target, over the seeds. Run by hand:

    nice python tests/benchmarks/tunables.py --seeds 20
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import itertools
import logging
from multiprocessing import get_context
import random
import re
import statistics

import optuna

from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


MAX_TRIALS = 400
N_STRUCTURES = 4
_STRUCTURE = re.compile(r"structure = (\d+)")
_CONSTANT = re.compile(r"c\d+ = (?:<<c\d+ = )?([\d.e-]+)")

WIDTHS = {"draws": None, "shifts": 0.3}
"""How far a model changes a constant whose range is 1 (standard deviation); None for any value."""


class Hidden:
    """The problem: what a program of a structure with some constants is worth.

    Args:
        n_constants: How many constants each structure has.
        rng: Draws what the best constants are, and how much each of them matters.
    """

    def __init__(self, n_constants: int, rng: random.Random) -> None:
        self.n_constants = n_constants
        self._best = [[rng.random() for _ in range(n_constants)] for _ in range(N_STRUCTURES)]
        self._weights = [[rng.expovariate(1) for _ in range(n_constants)] for _ in self._best]

    def evaluate(self, structure: int, constants: Sequence[float]) -> float:
        """How far from perfect it is: a unit per structure, and up to about three by constants."""
        best, weights = self._best[structure], self._weights[structure]
        off = sum(w * abs(c - b) ** 1.5 for w, c, b in zip(weights, constants, best, strict=True))
        return N_STRUCTURES - 1 - structure + 8 * off / sum(weights)


def write(structure: int, constants: Sequence[float], *, tunable: bool) -> str:
    """A program."""
    lines = [f"structure = {structure}"]
    for i, value in enumerate(constants):
        lines.append(f"c{i} = <<c{i} = {value} in 0.0..1.0>>" if tunable else f"c{i} = {value}")
    return "\n".join(lines)


def read(program: str) -> tuple[int, list[float]]:
    """Structure and constants of a program, marked or not."""
    found = _STRUCTURE.search(program)
    assert found is not None
    return int(found[1]), [float(value) for value in _CONSTANT.findall(program)]


def run(
    n_constants: int, seed: int, tunable: bool, target: float, width: float | None
) -> tuple[int, int]:
    """Evaluations and calls until the target is reached."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("optuna_llm").setLevel(logging.CRITICAL)
    hidden = Hidden(n_constants, random.Random(f"{seed} hidden"))
    rng = random.Random(f"{seed} model")
    calls = 0

    def answer(_: Sequence[Message]) -> str:
        nonlocal calls
        calls += 1
        structure, constants = read(study.best_trial.user_attrs["code"])
        if rng.random() < 0.2:
            structure = min(structure + 1, N_STRUCTURES - 1)
            constants = [round(rng.random(), 3) for _ in constants]
        else:
            for i in rng.sample(range(n_constants), 2):
                value = rng.random() if width is None else constants[i] + rng.gauss(0, width)
                constants[i] = round(min(max(value, 0.0), 1.0), 3)
        return write_reply(texts={"code": write(structure, constants, tunable=tunable)})

    def objective(trial: optuna.Trial) -> float:
        start = write(0, [0.5] * n_constants, tunable=tunable)
        value = hidden.evaluate(*read(suggest_text(trial, "code", start, tunable=tunable)))
        if value <= target:
            study.stop()
        return value

    study = optuna.create_study(
        sampler=LLMSampler("Go down.", model=ScriptedModel(answer), seed=seed)
    )
    study.optimize(objective, n_trials=MAX_TRIALS)
    return len(study.trials), calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--target", type=float, default=0.3)
    arguments = parser.parse_args()
    print("model   constants  tuned   evaluations      calls    not reached   (means, medians)")
    with get_context("spawn").Pool() as pool:
        for (kind, width), n_constants in itertools.product(WIDTHS.items(), range(2, 7)):
            means = {}
            for tunable in (False, True):
                seeds = range(arguments.seeds)
                jobs = [(n_constants, seed, tunable, arguments.target, width) for seed in seeds]
                trials, calls = zip(*pool.starmap(run, jobs), strict=True)
                means[tunable] = [statistics.mean(trials), statistics.mean(calls)]
                print(
                    f"{kind:6} {n_constants:9}  {'yes' if tunable else 'no':>5}"
                    f"   {means[tunable][0]:6.1f} ({statistics.median(trials):5.1f})"
                    f"  {means[tunable][1]:6.1f} ({statistics.median(calls):5.1f})"
                    f"  {sum(n >= MAX_TRIALS for n in trials):6}"
                )
            ratios = [a / b for a, b in zip(means[True], means[False], strict=True)]
            print(f"{'':16}  ratio   {ratios[0]:6.2f}          {ratios[1]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
