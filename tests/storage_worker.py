"""One worker of a study, as a process: ``storage_worker.py ADDRESS STUDY N_TRIALS``."""

from __future__ import annotations

import sys
from typing import Any

import optuna
from provenance import only_models

from optuna_llm import LLMSampler
from optuna_llm import suggest_text


def open_storage(address: str) -> Any:
    """The storage at an address; beside Optuna's own URLs a journal's or a gRPC proxy's."""
    kind, _, rest = address.partition(":")
    if kind == "journal-file":
        backend: Any = optuna.storages.journal.JournalFileBackend(rest)
        return optuna.storages.JournalStorage(backend)
    if kind == "journal-redis":
        url, _, prefix = rest.partition("#")
        backend = optuna.storages.journal.JournalRedisBackend(f"redis:{url}", prefix=prefix)
        return optuna.storages.JournalStorage(backend)
    if kind == "grpc":
        host, port = rest.split(":")
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    return optuna.storages.get_storage(address)


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -5, 5)
    text = suggest_text(trial, "code", "y = 2.5  # 字😀", language="python")
    return x * x + len(text)


def main(address: str, name: str, n_trials: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(
        study_name=name,
        storage=open_storage(address),
        sampler=LLMSampler(model="offline", proposers=only_models),
    )
    study.optimize(objective, int(n_trials))


if __name__ == "__main__":
    main(*sys.argv[1:])
