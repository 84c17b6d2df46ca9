"""Workers of one study as tasks of Ray, on this machine or a cluster.

    python examples/engines/ray_workers.py study.log 40 2

On a cluster, give a storage that all nodes reach, and RAY_ADDRESS.
"""

import os
from pathlib import Path
import sys

import ray
from worker import work


# What Ray's workers need of this process's environment; keys are not pickled with the sampler.
VARIABLES = ("OPTUNA_LLM_MODEL", "OPENAI_API_KEY", "OPENAI_BASE_URL")


def main(address: str, n_trials: int = 40, n_workers: int = 2) -> list[int]:
    if "://" not in address:
        address = str(Path(address).resolve())
    known = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    ray.init(runtime_env={"working_dir": str(Path(__file__).parent), "env_vars": known})
    # A task for each worker, not for each trial: a worker keeps what it knows, and what it has
    # asked for ahead.
    task = ray.remote(num_cpus=1)(work)
    counts = ray.get([task.remote(address, n_trials) for _ in range(n_workers)])
    print(f"trials by worker: {counts}")
    ray.shutdown()
    return counts


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
