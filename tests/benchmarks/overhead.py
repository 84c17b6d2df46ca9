"""What a trial costs beside the model's own time: LLMSampler against TPESampler.

Prints milliseconds per trial (ask, suggest five floats, tell) at several numbers of finished
trials, and what importing the package costs beyond importing Optuna. Run by hand:

    python tests/benchmarks/overhead.py
"""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import random
import statistics
import subprocess
import sys
import tempfile
import time

import optuna

from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


SIZES = (10, 100, 1_000, 10_000)
REPEATS = 20
SPACE = {f"x{i}": optuna.distributions.FloatDistribution(-5, 5) for i in range(5)}


def objective(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(name, -5, 5) ** 2 for name in SPACE)


def answer_at_random(messages: Sequence[Message]) -> str:
    return write_reply({name: random.uniform(-5, 5) for name in SPACE})


def make_sampler(name: str) -> optuna.samplers.BaseSampler:
    if name == "TPE":
        return optuna.samplers.TPESampler(seed=0)
    return LLMSampler(model=ScriptedModel(answer_at_random), seed=0)


def fill(study: optuna.Study, count: int) -> None:
    rng = random.Random(0)
    for _ in range(count):
        params = {name: rng.uniform(-5, 5) for name in SPACE}
        value = sum(x * x for x in params.values())
        study.add_trial(optuna.create_trial(params=params, distributions=SPACE, value=value))


def measure(study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> float:
    """Milliseconds per trial, median, after one that warms caches up."""
    study.sampler = sampler
    study.optimize(objective, n_trials=1)
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        study.optimize(objective, n_trials=1)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1_000


def measure_import() -> tuple[float, float]:
    """Milliseconds to import Optuna, and then optuna_llm, in a new process; best of nine.

    From bytecode, as of an installed package, which the first run may have to write.
    """
    code = (
        "import time; begin = time.perf_counter(); import optuna; middle = time.perf_counter();"
        "import optuna_llm; print(middle - begin, time.perf_counter() - middle)"
    )
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]
    runs = [
        subprocess.run(command, env=environment, capture_output=True, check=True).stdout
        for _ in range(9)
    ]
    first, second = zip(*(map(float, run.split()) for run in runs), strict=True)
    return min(first) * 1_000, min(second) * 1_000


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'storage':10}{'finished':>10}{'TPE ms':>10}{'LLM ms':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for storage in (None, f"sqlite:///{Path(folder) / 'study.db'}"):
            for size in SIZES:
                study = optuna.create_study(storage=storage)
                fill(study, size)
                tpe, llm = (measure(study, make_sampler(name)) for name in ("TPE", "LLM"))
                name = "SQLite" if storage else "in memory"
                print(f"{name:10}{size:>10,}{tpe:>10.2f}{llm:>10.2f}{llm / tpe:>8.2f}", flush=True)
    before, ours = measure_import()
    print(f"\nimport optuna: {before:.0f} ms; import optuna_llm after it: {ours:.0f} ms")


if __name__ == "__main__":
    main()
