"""Ray Tune runs and schedules the trials, and the language model proposes them.

    python examples/engines/ray_tune.py 8

The study lives in this process, where OPTUNA_LLM_MODEL names the model; "offline" is a rule-based
stand-in.
"""

import os
import sys

import optuna
from ray import tune
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from optuna_llm import LLMSampler
from optuna_llm import suggest_text


def suggest(trial: optuna.Trial) -> dict[str, str]:
    """Tune sees the numbers by itself; texts are returned to it."""
    trial.suggest_float("scale", 0.5, 2)
    description = "Two numbers in brackets."
    return {"point": suggest_text(trial, "point", "[7.5, -4.0]", description=description)}


def train(config: dict[str, object]) -> None:
    """What runs on Ray: it sees plain values, and no trial of Optuna's."""
    x, y = (float(number) for number in str(config["point"]).strip("[] ").split(","))
    tune.report({"loss": (x**2 + y**2) * float(str(config["scale"]))})


def main(n_trials: int = 8) -> tune.ResultGrid:
    sampler = LLMSampler(
        "Make the value small.", model=os.environ.get("OPTUNA_LLM_MODEL", "offline")
    )
    search = OptunaSearch(suggest, metric="loss", mode="min", sampler=sampler)
    settings = tune.TuneConfig(
        # Fewer at once know more of each other.
        search_alg=ConcurrencyLimiter(search, max_concurrent=2),
        metric="loss",
        mode="min",
        num_samples=n_trials,
    )
    results = tune.Tuner(train, tune_config=settings).fit()
    best = results.get_best_result()
    print(f"best of {len(results)}: {best.metrics['loss']:.4g} with {best.config}")
    return results


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
