"""The cost of notes and plots in the dashboard, for a trial and for the study's page.

For studies of up to 5,000 finished trials with texts of 5 kB on SQLite, without notes and
annotated: milliseconds per further trial whose objective takes 100 ms (mean of alternating
blocks), the API's answer for the page (median of 5, in process), and the page in Chromium until
its plots are drawn (median of 5). Run it by hand:

    python tests/benchmarks/notes.py
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path
import random
import shutil
import statistics
import sys
import tempfile
import time
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard

from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.dashboard import annotate
from optuna_llm.dashboard import DashboardNotes
from optuna_llm.dashboard._attributes import abridge_attributes
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import open_browser
from browser import Page
from browser import serve


SIZES = (0, 100, 1_000, 5_000)
LINE = "y = {:.6f} * x + {:.6f} * z  # a line of a program\n"
N_LINES = 100
SECONDS = 0.1
BLOCK = 50
ROUNDS = 3


def change(lines: list[str], rng: random.Random) -> str:
    """A program that differs from the last one in a line."""
    lines[rng.randrange(N_LINES)] = LINE.format(rng.random(), rng.random())
    return "".join(lines)


def fill(storage: str, size: int, rng: random.Random) -> list[str]:
    """Create a study of this size; the lines of its last program."""
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    lines = [LINE.format(rng.random(), rng.random()) for _ in range(N_LINES)]
    trials = []
    for number in range(size):
        attributes = {
            "code": change(lines, rng),
            "llm:proposal": {
                "texts": {"code": 1},
                "source": "model" if number else "initial",
                "rationale": "A line of it may do better with another factor.",
                "calls": 1,
                "prompt_tokens": 3_000,
                "completion_tokens": 100,
                **({"parent": rng.randrange(number)} if number else {}),
            },
            "feedback": "The mean error over five folds was 0.123.",
        }
        trials.append(optuna.trial.create_trial(value=rng.random(), user_attrs=attributes))
    study.add_trials(trials)
    return lines


def run_block(storage: str, lines: list[str], rng: random.Random, callbacks: list[Any]) -> float:
    """Milliseconds per trial, including the objective."""

    def objective(trial: optuna.Trial) -> float:
        suggest_text(trial, "code", lines[0], language="python")
        time.sleep(SECONDS)
        return rng.random()

    model = ScriptedModel(lambda _: write_reply(texts={"code": change(lines, rng)}))
    sampler = LLMSampler("Make it better.", model=model, seed=0)
    study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
    study.optimize(objective, 2, callbacks=callbacks)
    began = time.perf_counter()
    study.optimize(objective, BLOCK, callbacks=callbacks)
    return (time.perf_counter() - began) / BLOCK * 1e3


def time_median(work: Callable[[], object], count: int = 5) -> float:
    spans = []
    for _ in range(count):
        began = time.perf_counter()
        work()
        spans.append(time.perf_counter() - began)
    return statistics.median(spans)


@contextmanager
def open_answer(address: str, *, abridged: bool = False) -> Iterator[Callable[[], Any]]:
    """A function that requests what the page is made of, maybe as ``dashboard.run`` has it."""
    storage = optuna.storages.get_storage(address)
    app = optuna_dashboard.wsgi(storage)
    if abridged:
        app = abridge_attributes(app, storage)

    def ask() -> Any:
        environ: dict[str, Any] = {"PATH_INFO": "/api/studies/1", "REQUEST_METHOD": "GET"}
        setup_testing_defaults(environ)
        return json.loads(b"".join(app(environ, lambda *_: None)))

    ask()
    yield ask


def measure_page(storage: str, page: Page) -> float:
    with serve(storage) as url:

        def look() -> None:
            page.open("about:blank")
            page.open(f"{url}/studies/1")
            page.wait_for(".main-svg .point", seconds=120)

        look()
        return time_median(look)


def main() -> None:
    optuna.logging.disable_default_handler()  # But the line that Optuna logs is made.
    print("finished    trial ms   with notes   ratio    answer s   with notes   ratio", end="")
    print("      page s   with notes   ratio    rows")
    with tempfile.TemporaryDirectory() as folder, open_browser(Path(folder, "profile")) as browser:
        for size in SIZES:
            rng = random.Random(size)
            plain, noted = (f"{folder}/{size}-{name}.db" for name in ("plain", "noted"))
            lines = fill(f"sqlite:///{plain}", size, rng)
            shutil.copy(plain, noted)
            urls = [f"sqlite:///{path}" for path in (plain, noted)]
            study = optuna.load_study(study_name="s", storage=urls[1])
            annotate(study)
            trials: list[list[float]] = [[], []]
            for _ in range(ROUNDS):
                trials[0].append(run_block(urls[0], lines, rng, []))
                trials[1].append(run_block(urls[1], lines, rng, [DashboardNotes()]))
            answers = []
            for url in urls:
                with open_answer(url) as ask:
                    answers.append(time_median(ask))
            pages = [measure_page(url, Page(browser)) for url in urls]
            rows = len(study._storage.get_study_system_attrs(study._study_id))
            print(f"{size:8,}", end="")
            for a, b in ([statistics.mean(t) for t in trials], answers, pages):
                digits = 1 if a > 10 else 3
                print(f"  {a:10.{digits}f}   {b:10.{digits}f}   {b / a:5.2f}", end="")
            print(f"   {rows:5}", flush=True)


if __name__ == "__main__":
    main()
