"""What an ask costs in a study of many programs with tunables, beside TPE on the same study.

200 programs of 20 kB, 4 MB in all, each tuned in some fifteen trials: 3,000 trials in memory, read
before the clock starts. TPE decides the tunables of one program without a study of its own. Run by
hand:

    nice python tests/benchmarks/families.py
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import optuna
from optuna.trial import FrozenTrial

from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm._study.attributes import Provenance
from optuna_llm._study.attributes import provenance_attributes
from optuna_llm._study.tunings import split_template
from optuna_llm._tunables import fill
from optuna_llm._tunables import find_tunables
from optuna_llm._tunables import render
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


N_TUNABLES = 4


def write_program(number: int, size: int) -> str:
    """A program with four tunables, unlike all others."""
    head = "".join(f"c{i} = <<c{i} = 0.5 in 0.0..1.0>>\n" for i in range(N_TUNABLES))
    line = f"x = x * {number} + 1  # one of many lines\n"
    return head + line * ((size - len(head)) // len(line))


def make_trials(n_families: int, n_trials: int, size: int) -> list[FrozenTrial]:
    """Finished trials, those of one family after the other."""
    rng = random.Random(0)
    trials: list[FrozenTrial] = []
    per_family = n_trials // n_families
    for family in range(n_families):
        marked = write_program(family, size)
        first = len(trials)
        domains = {t.name: t.distribution for t in find_tunables(marked)}
        # The best has hardly been tuned yet.
        for i in range(per_family if family < n_families - 1 else 1):
            values = {name: round(rng.random(), 6) for name in domains}
            own = fill(marked, values)
            told = Provenance(
                source="tune" if i else "model",
                proposer="tune" if i else "m",
                texts={"code": 1},
            )
            trials.append(
                optuna.trial.create_trial(
                    value=1 / (1 + family) + sum(abs(v - 0.3) for v in values.values()),
                    params={f"code.{n}@{first}": v for n, v in values.items()},
                    distributions={f"code.{n}@{first}": d for n, d in domains.items()},
                    user_attrs={
                        **provenance_attributes(told),
                        **split_template("code", own),
                        "code": render(own),
                    },
                )
            )
    return trials


def measure(study: optuna.Study, ask: object, count: int) -> float:
    """Median seconds of an ask, the first aside, which reads the study."""
    seconds = []
    for _ in range(count + 1):
        began = time.perf_counter()
        ask(study)  # type: ignore[operator]
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", type=int, default=200)
    parser.add_argument("--trials", type=int, default=3_000)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--asks", type=int, default=20)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials = make_trials(arguments.families, arguments.trials, arguments.size)
    numbers = iter(range(10**6))

    def tune(study: optuna.Study) -> None:
        trial = study.ask()
        suggest_text(trial, "code", write_program(0, arguments.size), tunable=True)
        study.tell(trial, 1e-6 * (10**6 - next(numbers)))

    def tpe(study: optuna.Study) -> None:
        trial = study.ask()
        for name, domain in trials[-1].distributions.items():
            trial.suggest_float(name, domain.low, domain.high)  # type: ignore[attr-defined]
        study.tell(trial, 9.0)

    rows = {}
    model = ScriptedModel(
        lambda _: write_reply(texts={"code": write_program(next(numbers), arguments.size)})
    )
    samplers = {
        "tuned": LLMSampler(model=model, seed=0, proposers=lambda _, c, rng: ["tune"]),
        "asked": LLMSampler(model=model, seed=0, proposers=lambda _, c, rng: [c[0].name]),
        "TPE": optuna.samplers.TPESampler(seed=0),
    }
    for name, sampler in samplers.items():
        study = optuna.create_study(sampler=sampler)
        study.add_trials(trials)
        rows[name] = measure(study, tpe if name == "TPE" else tune, arguments.asks)
    print(f"{arguments.trials} trials, {arguments.families} programs of {arguments.size} bytes")
    for name, seconds in rows.items():
        print(f"{name:6} {1000 * seconds:8.1f} ms  {seconds / rows['TPE']:6.2f} of TPE")


if __name__ == "__main__":
    main()
