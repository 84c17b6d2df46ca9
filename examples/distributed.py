"""Several processes work on one study and share nothing but its database.

    python examples/distributed.py sqlite:///distributed.db 4

Any database address that Optuna takes will do. Started with the same one on several machines, they
all work on the same study.
"""

from __future__ import annotations

from collections import Counter
import multiprocessing
import os
import sys
import time

import optuna

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import suggest_text


NAME = "distributed"


def objective(trial: optuna.Trial) -> float:
    point = suggest_text(trial, "point", "[7.5, -4.0]", description="Two numbers in brackets.")
    scale = trial.suggest_float("scale", 0.5, 2)
    trial.set_user_attr("worker", os.getpid())
    time.sleep(0.5)  # Stands in for real work.
    return sum(float(x) ** 2 for x in point.strip("[] ").split(",")) * scale


def work(storage: str, n_trials: int) -> None:
    # The next proposal is generated while the objective runs.
    model = os.environ.get("OPTUNA_LLM_MODEL", "offline")
    sampler = LLMSampler("Make the value small.", model=model, prefetch=1)
    study = optuna.load_study(study_name=NAME, storage=storage, sampler=sampler)
    study.optimize(objective, n_trials=n_trials, catch=Exception)


def main(storage: str = "sqlite:///distributed.db", n_workers: str = "4") -> None:
    study = optuna.create_study(study_name=NAME, storage=storage, load_if_exists=True)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(storage, 10)) for _ in range(int(n_workers))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trials = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    for worker, count in Counter(t.user_attrs["worker"] for t in trials).items():
        print(f"process {worker}: {count} trials")
    print(f"{len({str(get_texts(t)) + str(t.params) for t in trials})} different of {len(trials)}")
    if not trials:
        raise SystemExit("No trial has succeeded: the reasons are above.")
    print(f"best: {study.best_value:.4g} with {get_texts(study.best_trial)}, {study.best_params}")


if __name__ == "__main__":
    main(*sys.argv[1:])
