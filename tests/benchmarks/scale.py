"""What a long history costs: a new process that joins a study, and one more ask.

Studies of 100 to 10,000 finished trials with texts of 2 kB and five floats, on SQLite and on
PostgreSQL. In a process of its own for each sampler: seconds to read the storage, seconds from
then to the first proposal, milliseconds of a later trial (median of 10), and MB of memory that
the trials and the sampler take. Then what a long study costs in memory, where no trial has gained
anything since the first: milliseconds of CPU of an ask (median and most of 20, cuts of the history
included) and of what reads all trials, the first time and later. Run by hand; PostgreSQL as in
tests/test_storages.py:

    python tests/benchmarks/scale.py
"""

from __future__ import annotations

from collections.abc import Callable
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
from optuna_llm import Prices
from optuna_llm import suggest_text
from optuna_llm import usage
from optuna_llm.callbacks import MaxTokensCallback
from optuna_llm.dashboard import annotate
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


sys.path.insert(0, str(Path(__file__).parents[1]))
from test_storages import new_database
from test_storages import POSTGRESQL


SIZES = (100, 1_000, 10_000)
SIZES_IN_MEMORY = (1_000, 10_000, 100_000)
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


def fill_in_vain(size: int) -> optuna.Study:
    """A study in memory, of trials of the model that gain nothing after the first."""
    study = optuna.create_study()
    rng = random.Random(0)
    space: Any = {name: optuna.distributions.FloatDistribution(-5, 5) for name in NAMES}
    proposal = {"source": "model", "model": "m", "calls": 1, "seconds": 1.0, "prompt_tokens": 9}
    for number in range(size):
        told = {**proposal, "rationale": f"Try {number} changes x{number % 5} for a smaller sum."}
        study.add_trial(
            optuna.create_trial(
                params={name: rng.uniform(-5, 5) for name in NAMES},
                distributions=space,
                value=1 + rng.random() if number else 0.0,
                user_attrs={"llm:proposal": told, "feedback": "It ran."},
            )
        )
    return study


def take(function: Callable[[], object], repeats: int) -> list[float]:
    """Milliseconds of CPU of each call."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        function()
        times.append((time.process_time() - begin) * 1_000)
    return times


def measure_in_memory(size: int) -> None:
    study = fill_in_vain(size)
    rng = random.Random(1)

    def answer(messages: object) -> str:
        return write_reply({name: rng.uniform(-5, 5) for name in NAMES})

    def ask() -> None:
        study.optimize(lambda t: 1 + sum(t.suggest_float(n, -5, 5) ** 2 for n in NAMES), 1)

    study.sampler = optuna.samplers.RandomSampler()
    take(ask, 2)
    random_ms = statistics.median(take(ask, 20))
    study.sampler = LLMSampler(model=ScriptedModel(answer), base_sampler=study.sampler)
    take(ask, 2)
    ours = take(ask, 20)
    budget = MaxTokensCallback(10**15)
    last = study.get_trials(deepcopy=False)[-1]
    found = [
        f"{size:>10,}{random_ms:>10.1f}{statistics.median(ours):>10.1f}{max(ours):>10.1f}",
        *(
            "".join(f"{t:>10.0f}" for t in take(function, 2))
            for function in (
                lambda: usage(study, Prices(1, 1)),
                lambda: budget(study, last),
                lambda: annotate(study),
            )
        ),
    ]
    print("".join(found), flush=True)


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
    titles = ("Random", "ask", "most", "usage", "later", "budget", "later", "annotate", "later")
    print(f"\n{'in memory':>10}" + "".join(f"{title:>10}" for title in titles))
    for size in SIZES_IN_MEMORY:
        measure_in_memory(size)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(join(*sys.argv[1:])))
    else:
        main()
