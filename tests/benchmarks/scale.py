"""What a large study costs each worker: many finished trials, many running, long texts.

One table of finished trials x running trials x size of the texts x storage. In a process of its
own for each sampler: milliseconds of its CPU for a whole trial, asked, stored and told (median of
9), under RandomSampler, TPESampler and LLMSampler, whose model answers at once; of the last also
seconds from the storage's read to the first proposal, and MB that the read and the first trials
have taken. Then what the rows fit: milliseconds of a trial, per thousand finished trials and per
hundred running. Then what a long study costs in memory, where no trial has gained anything since
the first: milliseconds of CPU of an ask (median and most of 20, cuts of the history included) and
of what reads all trials, the first time and later. Run by hand, with the names of storages if not
all are wanted; PostgreSQL as in tests/test_storages.py:

    python tests/benchmarks/scale.py memory journal SQLite PostgreSQL
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import gc
import json
from pathlib import Path
import random
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend

from optuna_llm import LLMSampler
from optuna_llm import Prices
from optuna_llm import suggest_text
from optuna_llm import usage
from optuna_llm._study.identity import make_claim
from optuna_llm.callbacks import MaxTokensCallback
from optuna_llm.dashboard import annotate
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


sys.path.insert(0, str(Path(__file__).parents[1]))
from test_storages import new_database
from test_storages import POSTGRESQL


# Finished trials, running trials, characters of a text.
ROWS = (
    (1_000, 0, 2_000),
    (1_000, 0, 20_000),
    (1_000, 100, 2_000),
    (1_000, 1_000, 2_000),
    (1_000, 100, 20_000),
    (10_000, 0, 2_000),
    (10_000, 100, 2_000),
)
RUNNING, COMPLETE = optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.COMPLETE
STORAGES = ("memory", "journal", "SQLite", "PostgreSQL")
SAMPLERS = ("Random", "TPE", "LLM")
SIZES_IN_MEMORY = (1_000, 10_000, 100_000)
NAMES = [f"x{i}" for i in range(5)]
LINE = "y = {:.6f} * x  # a line of a program\n"


def make_text(rng: random.Random, size: int = 2_000) -> str:
    return "".join(LINE.format(rng.random()) for _ in range(size // len(LINE)))


def open_storage(storage: str) -> Any:
    if storage.endswith(".log"):
        return optuna.storages.JournalStorage(JournalFileBackend(storage))
    return storage or optuna.storages.InMemoryStorage()


def fill(storage: Any, n_finished: int, n_running: int = 0, size: int = 2_000) -> None:
    """Add the trials of a search by a model; those that run have claimed their values."""
    study = optuna.create_study(study_name="s", storage=storage)
    rng = random.Random(0)
    space: Any = {name: optuna.distributions.FloatDistribution(-5, 5) for name in NAMES}
    base = make_text(rng, size).splitlines(keepends=True)
    trials = []
    for number in range(n_finished + n_running):
        # As in a search: most lines are those of others before.
        base[rng.randrange(len(base))] = LINE.format(rng.random())
        text, is_running = "".join(base), number >= n_finished
        params = {name: rng.uniform(-5, 5) for name in NAMES}
        proposal: dict[str, Any] = {"source": "model", "proposer": "model", "parent": number - 1}
        if not number:
            del proposal["parent"]
        proposal |= {"claim": make_claim(params, {"code": text}), "texts": {"code": 1}}
        proposal["rationale"] = "Another line."
        attributes = {"code": text, "llm:proposal": proposal}
        trial = optuna.create_trial(
            state=RUNNING if is_running else COMPLETE,
            params=params,
            distributions=space,
            value=None if is_running else 1 + rng.random(),
            user_attrs=attributes if is_running else {**attributes, "feedback": "It ran."},
        )
        trials.append(trial)
    study.add_trials(trials)


def memory() -> float:
    """MB in use."""
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1_024


def join(storage: str, name: str, row: str) -> dict[str, float]:
    """What it costs this process to join the study, and to go on."""
    n_finished, n_running, size = json.loads(row)
    rng = random.Random()

    def answer(messages: object) -> str:
        return write_reply({n: rng.uniform(-5, 5) for n in NAMES}, {"code": make_text(rng, size)})

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", make_text(rng, size), language="python")
        return 2 + sum(trial.suggest_float(n, -5, 5) ** 2 for n in NAMES) + len(text)

    samplers: dict[str, Any] = {
        "Random": optuna.samplers.RandomSampler,
        "TPE": lambda: optuna.samplers.TPESampler(seed=0),
        "LLM": lambda: LLMSampler(model={"model": ScriptedModel(answer)}, proposers=ask_model),
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # What it takes to load is no cost of the study.
    optuna.create_study(sampler=samplers[name]()).optimize(objective, 2)
    before = memory()
    opened = open_storage(storage)
    if not storage:
        fill(opened, n_finished, n_running, size)
    study = optuna.load_study(study_name="s", storage=opened, sampler=samplers[name]())
    study.get_trials(deepcopy=False)
    begin = time.perf_counter()
    study.optimize(objective, 1)
    first = time.perf_counter() - begin
    held = memory() - before
    times = take(lambda: study.optimize(objective, 1), 10)
    return {"first": first, "ms": statistics.median(times[1:]), "memory": held}


def ask_model(turns: object, candidates: object, rng: object) -> list[str]:
    return ["model"]


def measure(kind: str, storage: str, row: tuple[int, int, int]) -> list[float]:
    """Print a row, and return a trial's cost under each sampler."""
    if storage:
        fill(open_storage(storage), *row)
    found = {}
    for name in SAMPLERS:
        command = [sys.executable, __file__, "join", storage, name, json.dumps(row)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(run.stdout)
    costs = [found[name]["ms"] for name in SAMPLERS]
    print(
        f"{kind:12}{row[0]:>9,}{row[1]:>9,}{row[2] / 1000:>6.0f}"
        f"{''.join(f'{cost:>8.1f}' for cost in costs)}"
        f"{found['LLM']['first']:>9.2f}{found['Random']['memory']:>9.0f}"
        f"{found['LLM']['memory']:>9.0f}",
        flush=True,
    )
    return costs


def measure_storage(kind: str) -> list[list[float]]:
    costs = []
    for row in ROWS:
        if kind == "PostgreSQL":
            with new_database(POSTGRESQL, '"') as url:
                costs.append(measure(kind, url, row))
            continue
        with tempfile.TemporaryDirectory() as folder:
            storages = {
                "memory": "",
                "journal": str(Path(folder) / "study.log"),
                "SQLite": f"sqlite:///{Path(folder) / 'study.db'}",
            }
            costs.append(measure(kind, storages[kind], row))
    return costs


def fit(kind: str, costs: list[list[float]]) -> None:
    """Print how a trial's cost depends on what the study holds."""
    of_2_kb = [i for i, row in enumerate(ROWS) if row[2] == 2_000]
    known = np.array([[1, ROWS[i][0] / 1_000, ROWS[i][1] / 100] for i in of_2_kb])
    for index, name in enumerate(SAMPLERS):
        found = np.linalg.lstsq(known, np.array([costs[i][index] for i in of_2_kb]), rcond=None)
        base, finished, running = found[0]
        print(f"{kind:12}{name:>8}{base:>9.1f}{finished:>16.2f}{running:>14.2f}", flush=True)


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


def main(kinds: Sequence[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'storage':12}{'finished':>9}{'running':>9}{'kB':>6}", end="")
    print(
        "".join(f"{name:>8}" for name in SAMPLERS) + f"{'first s':>9}{'MB alone':>9}{'MB ours':>9}"
    )
    costs = {kind: measure_storage(kind) for kind in kinds}
    print(f"\n{'ms a trial':12}{'':8}{'':>9}{'/1,000 finished':>16}{'/100 running':>14}")
    for kind, found in costs.items():
        fit(kind, found)
    titles = ("Random", "ask", "most", "usage", "later", "budget", "later", "annotate", "later")
    print(f"\n{'in memory':>10}" + "".join(f"{title:>10}" for title in titles))
    for size in SIZES_IN_MEMORY:
        measure_in_memory(size)


if __name__ == "__main__":
    if sys.argv[1:2] == ["join"]:
        print(json.dumps(join(*sys.argv[2:])))
    else:
        main(sys.argv[1:] or STORAGES)
