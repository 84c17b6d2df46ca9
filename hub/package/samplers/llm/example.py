"""A sentence and a number, proposed by a language model.

``"offline"`` is a rule-based stand-in that needs no key; give the name of a model in its place.
"""

from __future__ import annotations

import optuna
import optunahub


llm = optunahub.load_module(package="samplers/llm")


@llm.explain_failures  # If it raises, the trial fails and the model reads why.
def objective(trial: optuna.Trial) -> float:
    width = trial.suggest_int("width", 10, 40)
    greeting = llm.suggest_text(trial, "greeting", "Hello, Ada!", description="One line.")
    if "Ada" not in greeting:
        raise ValueError("The greeting must name Ada.")
    llm.report_feedback(trial, f"The greeting has {len(greeting)} characters.")
    return abs(len(greeting) - width)


sampler = llm.LLMSampler("Fill the width with a greeting.", model="offline", seed=0)
study = optuna.create_study(sampler=sampler)
study.optimize(objective, n_trials=10, catch=Exception)
print(study.best_value, study.best_params, llm.get_texts(study.best_trial))
