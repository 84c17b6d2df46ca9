"""Studies for the study page: large ones, one with a front, and one that attacks the page."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
import math
import random
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import create_trial
from optuna.trial import FrozenTrial
from optuna.trial import TrialState


N_CASES = 24
BEGIN = datetime(2026, 3, 1, 9)
WORDS = [
    *["margin", "edge", "step", "radius", "hull", "swap", "cool", "greedy", "anneal"],
    *["shift", "grid", "cell", "corner", "packed", "outer", "inner", "gap", "slack"],
    *["solve", "bound", "wave", "batch", "prune", "order", "score"],
]


def make_line(random_: random.Random) -> str:
    words = random_.choices(WORDS, k=6)
    return (
        f"    {words[0]}_{words[1]} = {words[2]}({random_.random():.6f}) + {' * '.join(words[3:])}"
    )


def make_large_study(
    n_trials: int, characters: int = 5_000, storage: str | None = None, name: str = "packing"
) -> optuna.Study:
    """A study of programs that are changed a little at a time, some of which fail."""
    random_ = random.Random(0)
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    study.set_metric_names(["sum of radii"])
    study.set_user_attr("llm:task", "Pack 26 circles into the unit square; maximize their radii.")
    study.set_user_attr("llm:facts", {"n_trials": n_trials + 100})
    study.set_user_attr("llm:text:code", {"description": "Defines pack().", "language": "python"})
    lines = [make_line(random_) for _ in range(characters // 75)]
    programs, values, trials = [lines], [0.96], []
    for number in range(n_trials):
        parent = max(range(len(values)), key=lambda n: values[n] - abs(random_.gauss(0, 0.02)))
        program = list(programs[parent])
        for _ in range(random_.randint(1, 4)):
            program[random_.randrange(len(program))] = make_line(random_)
        if number == 0:
            program = lines
        outcome = random_.random()
        gain = random_.gauss(-0.01, 0.03) * (2.64 - values[parent])
        value = 0.96 if number == 0 else max(values[parent] + gain, 0.1)
        value = random_.uniform(-900, 0) if outcome > 0.97 and number else value
        is_failed = 0.85 < outcome < 0.97 and number > 0
        programs.append(program)
        values.append(-math.inf if is_failed else value)
        trials.append(
            _make_trial(number, parent - 1 if parent else 0, program, value, is_failed, random_)
        )
    study.add_trials(trials)
    return study


def _make_trial(
    number: int,
    parent: int,
    program: list[str],
    value: float,
    is_failed: bool,
    random_: random.Random,
) -> FrozenTrial:
    source = "model" if random_.random() < 0.8 else random_.choice(["base", "fallback", "user"])
    proposal: dict[str, Any] = {"source": source if number else "initial", "texts": {"code": 1}}
    if number and source == "model":
        proposal |= {
            "parent": parent,
            "model": "qwen3-coder",
            "rationale": f"The {random_.choice(WORDS)} leaves a {random_.choice(WORDS)} unused; "
            f"I move the {random_.choice(WORDS)} outwards and cool the schedule more slowly.",
            **{"calls": 1, "prompt_tokens": 9_000, "cached_tokens": 7_000},
            **{"completion_tokens": 700, "seconds": 4.2},
        }
    start = BEGIN + timedelta(seconds=30 * number)
    failed = "Traceback (most recent call last):\n  NameError: name 'hull' is not defined"
    feedback = failed if is_failed else f"{random_.randint(20, 26)} circles touch another one."
    x = random_.random()
    trial = create_trial(
        state=TrialState.FAIL if is_failed else TrialState.COMPLETE,
        value=None if is_failed else value,
        params={"cooling": x},
        distributions={"cooling": FloatDistribution(0, 1)},
        user_attrs={
            "code": "def pack():\n" + "\n".join(program) + "\n",
            "llm:proposal": proposal,
            "feedback": feedback,
        },
    )
    trial.datetime_start, trial.datetime_complete = start, start + timedelta(seconds=28)
    return trial


def make_front_study(storage: str | None = None) -> optuna.Study:
    """A study of two objectives with a constraint that some of its trials violate."""
    random_ = random.Random(0)
    study = optuna.create_study(
        storage=storage, study_name="accuracy and latency", directions=["maximize", "minimize"]
    )
    study.set_metric_names(["accuracy", "latency"])
    for _ in range(60):
        width, depth = random_.random(), random_.random()
        study.add_trial(
            create_trial(
                values=[math.sqrt(width) - 0.1 * depth, width * (0.5 + depth)],
                params={"width": width, "depth": depth},
                distributions=dict.fromkeys(("width", "depth"), FloatDistribution(0, 1)),
                user_attrs={
                    "prompt": f"Answer in {round(10 * width)} words.\nThink first.\n",
                    "llm:proposal": {
                        "source": "model",
                        "rationale": "A wider answer.",
                        "texts": {"prompt": 1},
                    },
                },
                # As a sampler's constraints_func would write it, in every version of Optuna.
                system_attrs={"constraints": [width + depth - 1.3]},
            )
        )
    return study


def make_case_study(storage: str | None = None, n_trials: int = 40) -> optuna.Study:
    """A study of prompts by two models, each the mean over named questions that grow harder."""
    random_ = random.Random(0)
    study = optuna.create_study(storage=storage, study_name="support", direction="maximize")
    study.set_metric_names(["accuracy"])
    names = {str(case): f"{WORDS[case % 20]} of invoice {case}" for case in range(N_CASES)}
    study.set_user_attr("llm:cases", names)
    study.set_user_attr("llm:text:prompt", {"description": "The instruction."})
    skills: list[float] = []
    for number in range(n_trials):
        order = sorted(range(number), key=lambda n: skills[n] - abs(random_.gauss(0, 0.08)))
        parent = order[-1] if order else None
        skills.append(0.2 if parent is None else skills[parent] + random_.gauss(0.01, 0.05))
        study.add_trial(_make_case_trial(parent, skills[-1], random_))
    return study


def _make_case_trial(parent: int | None, skill: float, random_: random.Random) -> FrozenTrial:
    chances = [1.3 + skill - case / 14 + random_.gauss(0, 0.25) for case in range(N_CASES)]
    scores = {case: float(chance > 0.75) for case, chance in enumerate(chances)}
    lines = random_.sample(WORDS, 8)
    proposal: dict[str, Any] = {"source": "initial", "texts": {"prompt": 1}}
    if parent is not None:
        proposer = random_.choices(["big", "small", "base"], [3, 2, 1])[0]
        proposal |= {
            "source": "base" if proposer == "base" else "model",
            "proposer": proposer,
            "parent": parent,
            "rationale": f"It should mind the {lines[0]} and the {lines[1]} first.",
            **{"calls": 1, "prompt_tokens": 3_000, "completion_tokens": 300},
        }
    return create_trial(
        value=sum(scores.values()) / N_CASES,
        params={
            "temperature": random_.random(),
            "max_tokens": round(2 ** random_.uniform(4, 12)),
            "style": random_.choice(["brief", "full", "steps"]),
        },
        distributions={
            "temperature": FloatDistribution(0, 1),
            "max_tokens": IntDistribution(16, 4_096, log=True),
            "style": CategoricalDistribution(["brief", "full", "steps"]),
        },
        intermediate_values=scores,
        user_attrs={
            "prompt": "\n".join(["Answer the customer.", *(f"- Mind the {w}." for w in lines)]),
            "feedback": f"{N_CASES - round(sum(scores.values()))} questions have wrong answers.",
            "llm:cases": {
                "count": N_CASES,
                "words": {str(case): "The sum is wrong." for case in scores if not scores[case]},
            },
            "llm:proposal": proposal,
        },
    )


def make_hostile_study(beacon: str, storage: str | None = None) -> optuna.Study:
    """A study with attacks in every field that the page shows.

    Args:
        beacon: The address of a server that nothing may connect to.
        storage: The study's storage.
    """
    run = f"fetch('{beacon}/run');document.body.dataset.hacked=1"
    attack = (
        f"<script>{run}</script></script><script>{run}</script>"
        f'<img src={beacon}/img onerror="{run}"><svg onload="{run}">'
        f'"\' onmouseover="{run}" <!-- --> ]]> <iframe src={beacon}/frame></iframe>'
        f"<link rel=stylesheet href={beacon}/css><base href={beacon}/>"
        f'<meta http-equiv=refresh content="0;url={beacon}/meta">'
        "\u2028\u2029\u202e\x00\x1b[31m\ud800 ${1+1} {{1+1}} `x` \\u003cscript\\u003e"
        f" [a](javascript:{run}) ![b]({beacon}/markdown)"
    )
    stored = attack.replace("\ud800", "").replace("\x00", "") if storage else attack
    study = optuna.create_study(
        storage=storage, study_name=stored[:400], directions=["maximize", "minimize"]
    )
    study.set_metric_names([stored, "__proto__"])
    study.set_user_attr("llm:task", stored)
    study.set_user_attr("llm:insights", [stored])
    study.set_user_attr("llm:facts", {"n_trials": 10**14})
    study.set_user_attr("llm:cases", {"2": stored, "3": "__proto__"})
    study.set_user_attr(
        "llm:text:" + "constructor", {"description": stored, "language": stored, "initial": stored}
    )
    for number in range(6):
        proposal = {
            "source": "model",
            "model": stored[:190] + str(number % 2),
            "rationale": stored,
            "error": stored,
            "parent": (number + 1) % 6,
            "texts": {"constructor": 1},
            **{"calls": 1, "prompt_tokens": 10**14, "completion_tokens": 3},
        }
        attributes = {
            "llm:proposal": proposal,
            "constructor": f"{stored}\n" * (number + 1),
            "feedback": stored,
            "llm:cases": {"scores": {"2": number, "3": 1e308}, "words": {"2": stored}},
        }
        values = [math.inf, -math.inf] if number == 2 else [1e308 * (-1) ** number, 5e-324]
        study.add_trial(
            create_trial(
                state=TrialState.FAIL if number == 5 else TrialState.COMPLETE,
                values=None if number == 5 else values,
                params={stored[:300]: stored[:300], "__proto__": math.inf},
                distributions={
                    stored[:300]: CategoricalDistribution([stored[:300]]),
                    "__proto__": CategoricalDistribution([math.inf]),
                },
                user_attrs=attributes,
                intermediate_values={0: math.nan, 1: math.inf},
                system_attrs={"constraints": [math.nan, -1.0, math.inf if number == 3 else 0]},
            )
        )
    return study
