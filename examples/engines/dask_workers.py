"""Workers of one study as tasks of Dask, on this machine or a cluster.

    python examples/engines/dask_workers.py 40 2

The study is kept by Dask's scheduler (``DaskStorage`` of optuna-integration), in memory or behind
it in a database: workers need to reach nothing but Dask.
"""

from collections import Counter
import sys

from distributed import Client
import optuna
from optuna.study import MaxTrialsCallback
from optuna_integration import DaskStorage
from worker import make_sampler
from worker import NAME
from worker import objective


def main(n_trials: int = 40, n_workers: int = 2, address: str | None = None) -> optuna.Study:
    workers = {} if address else {"n_workers": n_workers, "threads_per_worker": 1}
    with Client(address, **workers) as client:
        storage = DaskStorage()  # Or DaskStorage("postgresql+psycopg2://…").
        # Made ahead, a proposal that no trial uses could not be accounted for when Dask ends.
        sampler = make_sampler(prefetch=0)
        study = optuna.create_study(study_name=NAME, storage=storage, sampler=sampler)
        # A task for each worker, not for each trial: a worker keeps what it knows.
        until = MaxTrialsCallback(n_trials, states=None)
        tasks = [
            client.submit(
                study.optimize, objective, catch=Exception, callbacks=[until], pure=False
            )
            for _ in range(n_workers)
        ]
        client.gather(tasks)
        # The scheduler forgets it when it ends.
        return optuna.load_study(study_name=NAME, storage=storage.get_base_storage())


if __name__ == "__main__":
    study = main(*map(int, sys.argv[1:]))
    counts = Counter(trial.user_attrs["worker"] for trial in study.trials)
    print(f"trials by worker: {list(counts.values())}, best: {study.best_value:.4g}")
