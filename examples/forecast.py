"""Forecasting: a rule that predicts the next value of a series, its constants tuned by TPE.

The model writes the rule and marks the constants that it is unsure of; other values are tried
between its proposals. OPTUNA_LLM_MODEL names the model; "offline" is a rule-based stand-in.
"""

import math
import random

import optuna
from optuna.trial import TrialState

from optuna_llm import explain_failures
from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm import usage
from optuna_llm.evaluate import run_python
from optuna_llm.models import ModelLike


START = """\
def forecast(values):
    level, trend = values[0], 0
    for value in values[1:]:
        expected = level + trend
        level = expected + <<share = 0.5 in 0.01..1.0>> * (value - expected)
        trend += <<trend_share = 0.5 in 0.0..1.0>> * (level - expected)
    return level + trend
"""
CALL = "predicted = [[forecast(s[:i]) for i in range(warm_up, len(s))] for s in series]"
WARM_UP = 24
TASK = (
    "Predict the next value of monthly series. The value is the mean absolute error in percent "
    f"of the series' mean, from month {WARM_UP} on."
)
FORM = (
    "Defines forecast(values): a list of at least "
    f"{WARM_UP} numbers, the oldest first, to a prediction of the next. Pure Python."
)


def make_series(seed: int) -> list[float]:
    """Ten years of something that grows, has a season, and is noisy."""
    rng = random.Random(seed)
    growth, swing, phase = rng.uniform(0.2, 0.8), rng.uniform(5, 20), rng.uniform(0, 12)
    return [
        50 + growth * month + swing * math.sin((month + phase) * math.pi / 6) + rng.gauss(0, 2)
        for month in range(120)
    ]


SERIES = [make_series(seed) for seed in range(4)]


@explain_failures
def objective(trial: optuna.Trial) -> float:
    code = suggest_text(trial, "code", START, description=FORM, language="python", tunable=True)
    inputs = {"series": SERIES, "warm_up": WARM_UP}
    run = run_python(f"{code}\n{CALL}", inputs=inputs, outputs=["predicted"], timeout=20)
    if not run.ok:
        raise RuntimeError(run.feedback)
    # The errors are computed here, out of the program's reach.
    errors = []
    for series, predicted in zip(SERIES, run.values["predicted"], strict=True):
        actual = series[WARM_UP:]
        off = [abs(value - float(guess)) for value, guess in zip(actual, predicted, strict=True)]
        errors.append(100 * sum(off) / sum(actual))
    report_feedback(trial, f"Error by series: {', '.join(f'{e:.3g} %' for e in errors)}.")
    return sum(errors) / len(errors)


def main(n_trials: int = 40, model: ModelLike = None, seed: int | None = None) -> optuna.Study:
    study = optuna.create_study(sampler=LLMSampler(TASK, model=model, seed=seed))
    study.optimize(objective, n_trials=n_trials, catch=Exception)
    if not any(trial.state == TrialState.COMPLETE for trial in study.trials):
        raise SystemExit("\nNo rule could be run: the reasons are above.")
    best = study.best_trial
    calls = usage(study).calls
    print(f"\n{study.trials[0].value:.3g} -> {best.value:.3g} % off, after {calls} calls:")
    print(get_texts(best)["code"])
    return study


if __name__ == "__main__":
    main()
