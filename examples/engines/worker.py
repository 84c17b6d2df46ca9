"""One worker of a study. Any engine may start any number of them; they share a storage alone.

    python examples/engines/worker.py study.log 40

The storage is the address of a database, or the path of a journal: a file that may lie in a folder
that several machines share. The workers end once the study has so many trials. OPTUNA_LLM_MODEL
names the model; "offline" is a rule-based stand-in.
"""

import os
import platform
import signal
import sys

import optuna
from optuna.storages import BaseStorage
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback

from optuna_llm import describe_study
from optuna_llm import explain_failures
from optuna_llm import LLMSampler
from optuna_llm import suggest_text


NAME = "workers"


@explain_failures
def objective(trial: optuna.Trial) -> float:
    trial.set_user_attr("worker", f"{platform.node()}:{os.getpid()}")
    point = suggest_text(trial, "point", "[7.5, -4.0]", description="Two numbers in brackets.")
    scale = trial.suggest_float("scale", 0.5, 2)
    x, y = (float(number) for number in point.strip("[] ").split(","))
    return (x**2 + y**2) * scale


def make_sampler(prefetch: int = 1) -> LLMSampler:
    """The sampler of each worker: the next proposal is made while the objective runs."""
    model = os.environ.get("OPTUNA_LLM_MODEL", "offline")
    return LLMSampler("Make the value small.", model=model, prefetch=prefetch)


def open_storage(address: str) -> BaseStorage:
    if "://" in address:
        return optuna.storages.get_storage(address)
    return JournalStorage(JournalFileBackend(address))


def work(address: str, n_trials: int) -> int:
    """Run trials until the study has so many; returns how many this worker has run."""
    study = optuna.create_study(
        study_name=NAME,
        storage=open_storage(address),
        sampler=make_sampler(),
        load_if_exists=True,
    )
    describe_study(study, n_trials=n_trials)
    numbers: list[int] = []
    callbacks = [
        MaxTrialsCallback(n_trials, states=None),
        lambda study, trial: numbers.append(trial.number),
    ]
    if len(study.trials) < n_trials:
        study.optimize(objective, catch=Exception, callbacks=callbacks)
    return len(numbers)


if __name__ == "__main__":
    # As engines end a process: the running trial then fails, and is not left running for ever.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"{work(sys.argv[1], int(sys.argv[2]))} trials by this worker")
