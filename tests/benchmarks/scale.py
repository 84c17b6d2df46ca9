"""What a long history costs: a new process that joins a study, and one more ask.

Studies of 100 to 10,000 finished trials with texts of 2 kB and five floats, on SQLite and on
PostgreSQL. In a process of its own for each sampler: seconds to read the storage, seconds from
then to the first proposal, milliseconds of a later trial (median of 10), and MB of memory that
the trials and the sampler take. Run by hand; PostgreSQL as in tests/test_storages.py:

    python tests/benchmarks/scale.py
"""

from __future__ import annotations

import json
from pathlib import Path
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import optuna

from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


sys.path.insert(0, str(Path(__file__).parents[1]))
from test_storages import new_database
from test_storages import POSTGRESQL


SIZES = (100, 1_000, 10_000)
NAMES = [f"x{i}" for i in range(5)]
LINE = "y = {:.6f} * x  # a line of a program\n"


def make_text(rng: random.Random) -> str:
    return "".join(LINE.format(rng.random()) for _ in range(50))


def objective(trial: optuna.Trial) -> float:
    text = suggest_text(trial, "code", "y = x", language="python")
    return sum(trial.suggest_float(name, -5, 5) ** 2 for name in NAMES) + len(text)


def fill(storage: str, size: int) -> None:
    study = optuna.create_study(study_name="s", storage=storage)
    rng = random.Random(0)
    space: Any = {name: optuna.distributions.FloatDistribution(-5, 5) for name in NAMES}
    base = make_text(rng).splitlines(keepends=True)
    trials = []
    for number in range(size):
        # As in a search: most lines are those of others before.
        base[rng.randrange(len(base))] = LINE.format(rng.random())
        proposal = {"source": "model", "rationale": "Another line.", "texts": {"code": 1}}
        attributes = {"code": "".join(base), "llm:proposal": proposal, "feedback": "It ran."}
        if number:
            proposal["parent"] = number - 1
        params = {name: rng.uniform(-5, 5) for name in NAMES}
        trials.append(
            optuna.create_trial(
                params=params, distributions=space, value=rng.random(), user_attrs=attributes
            )
        )
    study.add_trials(trials)


def memory() -> float:
    """MB in use at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


def join(storage: str, name: str) -> dict[str, float]:
    """What it costs this process to join the study, and to go on."""
    rng = random.Random()

    def answer(messages: object) -> str:
        return write_reply({n: rng.uniform(-5, 5) for n in NAMES}, {"code": make_text(rng)})

    sampler: Any = optuna.samplers.TPESampler(seed=0)
    if name == "LLM":
        sampler = LLMSampler(model=ScriptedModel(answer))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
    before = memory()
    begin = time.perf_counter()
    study.get_trials(deepcopy=False)
    read = time.perf_counter() - begin
    times = []
    for _ in range(11):
        begin = time.perf_counter()
        study.optimize(objective, n_trials=1)
        times.append(time.perf_counter() - begin)
    return {
        "read": read,
        "first": times[0],
        "later": statistics.median(times[1:]) * 1_000,
        "memory": memory() - before,
    }


def measure(kind: str, storage: str, size: int) -> None:
    fill(storage, size)
    for name in ("TPE", "LLM"):
        command = [sys.executable, __file__, storage, name]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(run.stdout)
        print(
            f"{kind:12}{size:>8,}{name:>6}{found['read']:>9.2f}{found['first']:>9.2f}"
            f"{found['later']:>10.0f}{found['memory']:>8.0f}",
            flush=True,
        )


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(
        f"{'storage':12}{'finished':>8}{'':6}{'read s':>9}{'first s':>9}{'later ms':>10}{'MB':>8}"
    )
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            measure("SQLite", f"sqlite:///{Path(folder) / 'study.db'}", size)
        with new_database(POSTGRESQL, '"') as storage:
            measure("PostgreSQL", storage, size)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(join(*sys.argv[1:])))
    else:
        main()
