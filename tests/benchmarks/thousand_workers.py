"""What a trial costs one of a thousand workers, while the others end trials and begin new ones.

A driver in a process of its own plays the others on PostgreSQL (as in tests/test_storages.py): a
thousand trials run, and between two trials of the worker that is measured it ends so many of them
and begins as many. Milliseconds of that worker's CPU for a whole trial with five floats and 2 kB
of text, asked, stored and told (median of 5), under RandomSampler and LLMSampler, whose model
answers at once; and what each peer that has changed adds. Run by hand, with other numbers of peers
if these are not wanted; the last row takes some ten minutes, nearly all of them the driver's:

    nice python tests/benchmarks/thousand_workers.py 0 100 1000
"""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
import random
import statistics
import subprocess
import sys
from typing import Any

import optuna
from scale import ask_model
from scale import fill
from scale import make_text
from scale import NAMES
from scale import take

from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


sys.path.insert(0, str(Path(__file__).parents[1]))
from test_storages import new_database
from test_storages import POSTGRESQL


N_FINISHED = 1_000
N_RUNNING = 1_000
CHANGES = ("0", "100", "1000")
N_ASKS = 5


def drive(url: str) -> None:
    """End and begin as many trials as each line of the standard input says."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="s", storage=url)
    storage, rng = study._storage, random.Random(1)
    for line in sys.stdin:
        count = int(line)
        trials = study.get_trials(deepcopy=False)
        running = [t for t in trials if t.state == optuna.trial.TrialState.RUNNING]
        for trial in running[:count]:
            state = optuna.trial.TrialState.COMPLETE
            storage.set_trial_state_values(trial._trial_id, state, [1 + rng.random()])
        for old in running[:count]:
            params = {name: rng.uniform(-5, 5) for name in NAMES}
            told = {**old.user_attrs["llm:proposal"], "claim": f"{rng.getrandbits(128):032x}"}
            study.add_trial(
                optuna.create_trial(
                    state=optuna.trial.TrialState.RUNNING,
                    params=params,
                    distributions=old.distributions,
                    user_attrs={"code": make_text(rng), "llm:proposal": told},
                )
            )
        print("done", flush=True)


def work(url: str, name: str, count: str) -> float:
    """Median milliseconds of a trial while so many peers change between two."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = random.Random()

    def answer(messages: object) -> str:
        return write_reply({n: rng.uniform(-5, 5) for n in NAMES}, {"code": make_text(rng)})

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", make_text(rng), language="python")
        return 2 + sum(trial.suggest_float(n, -5, 5) ** 2 for n in NAMES) + len(text)

    sampler: Any = optuna.samplers.RandomSampler()
    if name == "LLM":
        sampler = LLMSampler(model={"model": ScriptedModel(answer)}, proposers=ask_model)
    study = optuna.load_study(study_name="s", storage=url, sampler=sampler)
    study.optimize(objective, 2)
    with subprocess.Popen(
        [sys.executable, __file__, "drive", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        times = []
        for _ in range(N_ASKS):
            driver.stdin.write(f"{count}\n")
            driver.stdin.flush()
            driver.stdout.readline()
            times += take(lambda: study.optimize(objective, 1), 1)
        driver.stdin.close()
    return statistics.median(times)


def main(changes: Sequence[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{N_FINISHED:,} finished, {N_RUNNING:,} running, PostgreSQL; ms of CPU a trial")
    print(f"{'changed between two':>20}{'Random':>9}{'LLM':>9}{'ratio':>7}{'ms a peer':>11}")
    first: dict[str, float] = {}
    for count in map(int, changes):
        found = {}
        for name in ("Random", "LLM"):
            with new_database(POSTGRESQL, '"') as url:
                fill(url, N_FINISHED, N_RUNNING)
                command = [sys.executable, __file__, "work", url, name, str(count)]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                found[name] = json.loads(run.stdout)
        first = first or found
        each = (found["LLM"] - first["LLM"]) / count if count else 0.0
        print(
            f"{count:>20,}{found['Random']:>9.0f}{found['LLM']:>9.0f}"
            f"{found['LLM'] / found['Random']:>7.2f}{each:>11.2f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["drive"]:
        drive(*sys.argv[2:])
    elif sys.argv[1:2] == ["work"]:
        print(json.dumps(work(*sys.argv[2:])))
    else:
        main(sys.argv[1:] or CHANGES)
