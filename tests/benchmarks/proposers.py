"""What comes of sharing trials among a model and the base sampler, and among two models.

Scripted models of four strengths, from one that follows the slope to one that proposes at random,
on the eight functions of landscapes.py, under LLMSampler: alone, and as its rule shares the trials
with TPE. Regret is that of the trial with the best value, without its noise, in units of random
search. Then two models, one of them ten times dearer and slightly better. Run by hand:

    nice python tests/benchmarks/proposers.py --seeds 20
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
import logging
import math
from multiprocessing import get_context
import random
import statistics
from typing import Any

from landscapes import Landscape
from landscapes import LANDSCAPES
from landscapes import STRENGTHS
from landscapes import Walker
import optuna

from optuna_llm import Completion
from optuna_llm import LLMSampler
from optuna_llm import Turn
from optuna_llm import Usage
from optuna_llm import usage
from optuna_llm._proposing.credit import choose_by_credit
from optuna_llm._study.attributes import read_provenance
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


N_TRIALS = 100
TPE = "TPE"
PAIR: dict[str, dict[str, Any]] = {
    "dear": STRENGTHS["good"],
    "cheap": {**STRENGTHS["good"], "doubt": 0.15},
}
TOKENS = {"dear": 10_000, "cheap": 1_000}


@dataclass(frozen=True)
class Run:
    """What came of a study.

    Attributes:
        regrets: The regret after each trial.
        costs: Tokens spent up to each trial.
        share: The share of trials that models have proposed.
    """

    regrets: list[float]
    costs: list[int]
    share: float


def script(study: optuna.Study, landscape: Landscape, walker: Walker, tokens: int) -> Any:
    """A model that proposes what the walker does, from all trials of the study."""

    def answer(_: object) -> Completion:
        trials = [t for t in study.get_trials(deepcopy=False) if t.values]
        known = {name for trial in trials for name in trial.params}
        point = walker.propose([(trial.values[0], trial.params) for trial in trials])
        reply = write_reply({name: point[name] for name in sorted(known)})
        return Completion(reply, usage=Usage(prompt_tokens=tokens))

    return ScriptedModel(answer)


def models_only(turns: Sequence[Turn], candidates: Sequence[Any], rng: random.Random) -> list[str]:
    """The rule without the base sampler."""
    return choose_by_credit(turns, [c for c in candidates if c.is_model], rng)


def run(
    name: str, strengths: dict[str, dict[str, Any]], alone: bool, count: int, seed: int
) -> Run:
    """A study of one function by these models and TPE; of TPE alone without models."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("optuna_llm").setLevel(logging.CRITICAL)
    landscape = LANDSCAPES[name]
    noise = random.Random(f"{seed} noise")
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    if strengths:
        models = {
            key: script(
                study,
                landscape,
                Walker(landscape, random.Random(f"{seed} {key}"), **strength),
                TOKENS.get(key, 1),
            )
            for key, strength in strengths.items()
        }
        rule: Any = {"proposers": models_only} if alone else {}
        study.sampler = LLMSampler("Go down.", model=models, seed=seed, **rule)
    study.optimize(lambda trial: landscape.evaluate(trial, noise), n_trials=count)
    regrets, costs, best, spent = [], [], math.inf, 0
    own = 0
    for trial in study.trials:
        if trial.values[0] < best:
            best = trial.values[0]
            regret = landscape.value(trial.params)
        provenance = read_provenance(trial)
        spent += provenance.usage.prompt_tokens if provenance.usage else 0
        own += provenance.source == "model"
        regrets.append(regret)
        costs.append(spent)
    assert not strengths or usage(study).prompt_tokens == spent
    return Run(regrets, costs, own / count)


def run_all(pool: Any, seeds: int, **arguments: Any) -> dict[str, list[Run]]:
    """The runs of each function, seed by seed."""
    return {
        name: pool.map(partial(_run, name, arguments), range(seeds), chunksize=max(1, seeds // 4))
        for name in LANDSCAPES
    }


def _run(name: str, arguments: dict[str, Any], seed: int) -> Run:
    return run(name, seed=seed, **arguments)


def mean_regret(runs: Sequence[Run]) -> float:
    return statistics.mean(found.regrets[-1] for found in runs)


def compare_strengths(pool: Any, seeds: int) -> None:
    """Each strength alone and sharing with TPE, against TPE."""
    tpe = run_all(pool, seeds, strengths={}, alone=False, count=N_TRIALS)
    rows = {}
    for key, strength in reversed(STRENGTHS.items()):
        arguments = {"strengths": {key: strength}, "count": N_TRIALS}
        rows[key] = [run_all(pool, seeds, alone=alone, **arguments) for alone in (True, False)]
        scale = {name: mean_regret(runs) for name, runs in rows["random"][0].items()}
        if key == "random":
            print(
                f"{'mean regret, random search = 1':32}{'alone':>8}{'shared':>8}{'by model':>10}"
            )
            print(_row(TPE, tpe, scale), flush=True)
        alone, shared = rows[key]
        share = statistics.mean(found.share for runs in shared.values() for found in runs)
        print(_row(key, alone, scale) + f"{_average(shared, scale):8.3f}{share:10.0%}", flush=True)
    print(f"\n{'function':18}{TPE:>8}" + "".join(f"{key:>16}" for key in rows))
    for name in LANDSCAPES:
        cells = "".join(
            f"{mean_regret(alone[name]) / scale[name]:8.3f}"
            f"{mean_regret(shared[name]) / scale[name]:8.3f}"
            for alone, shared in rows.values()
        )
        print(f"{name:18}{mean_regret(tpe[name]) / scale[name]:8.3f}{cells}")


def _average(runs: dict[str, list[Run]], scale: dict[str, float]) -> float:
    return statistics.mean(mean_regret(found) / scale[name] for name, found in runs.items())


def _row(key: str, runs: dict[str, list[Run]], scale: dict[str, float]) -> str:
    return f"{key:32}{_average(runs, scale):8.3f}"


def compare_costs(pool: Any, seeds: int) -> None:
    """A model ten times dearer and slightly better, another, and both."""
    dear = run_all(pool, seeds, strengths={"dear": PAIR["dear"]}, alone=True, count=N_TRIALS)
    cheap = run_all(pool, seeds, strengths={"cheap": PAIR["cheap"]}, alone=True, count=N_TRIALS)
    both = run_all(pool, seeds, strengths=PAIR, alone=True, count=N_TRIALS)
    scale = {name: mean_regret(runs) for name, runs in dear.items()}
    full = _spend(dear)
    print(f"\n{'two models, dear alone = 1':32}{'regret':>8}{'cost':>8}")
    for key, runs in (("dear", dear), ("cheap", cheap), ("both", both)):
        print(f"{key:32}{_average(runs, scale):8.3f}{_spend(runs) / full:8.3f}")


def _spend(runs: dict[str, list[Run]]) -> float:
    return statistics.mean(found.costs[-1] for own in runs.values() for found in own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=["strengths", "costs"])
    options = parser.parse_args()
    with get_context("spawn").Pool(options.processes) as pool:
        if options.only != "costs":
            compare_strengths(pool, options.seeds)
        if options.only != "strengths":
            compare_costs(pool, options.seeds)


if __name__ == "__main__":
    main()
