"""The cost of cases in the dashboard: 300 trials of 100 cases each, on SQLite.

The same annotated study without and with cases: seconds that ``annotate`` takes, the first answer
of the API for the study's page, for which the trials are read, and the following (median of 5, in
process), of ``optuna-dashboard`` and of ``optuna_llm.dashboard.run``, and the page that the latter
serves, in Chromium until its plots are drawn (median of 5). Run it by hand:

    python tests/benchmarks/case_notes.py
"""

from __future__ import annotations

from pathlib import Path
import random
import sys
import tempfile
import time

import optuna

from optuna_llm._study.internals import report_values
from optuna_llm.dashboard import annotate


sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import open_browser
from browser import Page
from notes import change
from notes import LINE
from notes import measure_page
from notes import N_LINES
from notes import open_answer
from notes import time_median


N_TRIALS = 300
N_CASES = 100
ROUNDS = 2


def fill(study: optuna.Study, rng: random.Random, *, with_cases: bool) -> None:
    lines = [LINE.format(rng.random(), rng.random()) for _ in range(N_LINES)]
    means = []
    values: list[dict[int, float]] = []
    for _ in range(N_TRIALS):
        scores = {case: float(rng.random() < 0.5) for case in range(N_CASES)}
        words = {str(c): f"answered {c}, not {2 * c}" for c, score in scores.items() if not score}
        own = {
            "code": change(lines, rng),
            "llm:proposal": {
                "texts": {"code": 1},
                "source": "model",
                "calls": 1,
                "rationale": "Another factor.",
            },
            **({"llm:cases": {"count": N_CASES, "words": words}} if with_cases else {}),
        }
        means.append(sum(scores.values()) / N_CASES)
        values.append(scores if with_cases else {})
        running = optuna.trial.TrialState.RUNNING
        study.add_trial(optuna.trial.create_trial(state=running, user_attrs=own))
    for frozen, scores, mean in zip(study.trials, values, means, strict=True):
        trial = optuna.Trial(study, frozen._trial_id)
        # Optuna writes one value at a time.
        report_values(trial, scores)
        study.tell(trial, mean)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'seconds':30}without cases   with cases   ratio")

    def tell(name: str, seconds: list[float]) -> None:
        plain, cases = seconds
        print(f"{name:30}{plain:13.2f}{cases:13.2f}{cases / plain:8.2f}", flush=True)

    with tempfile.TemporaryDirectory() as folder, open_browser(Path(folder, "profile")) as browser:
        urls = [f"sqlite:///{folder}/{name}.db" for name in ("plain", "cases")]
        annotating = []
        for url, with_cases in zip(urls, (False, True), strict=True):
            study = optuna.create_study(study_name="s", storage=url, direction="maximize")
            fill(study, random.Random(0), with_cases=with_cases)
            began = time.perf_counter()
            annotate(study)
            annotating.append(time.perf_counter() - began)
        tell("annotate", annotating)
        for name, abridged in (("optuna-dashboard", False), ("dashboard.run", True)):
            firsts, answers = [], []
            for url in urls:
                began = time.perf_counter()
                with open_answer(url, abridged=abridged) as ask:
                    firsts.append(time.perf_counter() - began)
                    answers.append(time_median(ask))
            tell(f"first answer, {name}", firsts)
            tell(f"answer, {name}", answers)
        for _ in range(ROUNDS):
            tell("page, dashboard.run", [measure_page(url, Page(browser)) for url in urls])


if __name__ == "__main__":
    main()
