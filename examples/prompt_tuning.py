"""A prompt with cases: what a small model is told, improved over 40 questions with exact answers.

OPTUNA_LLM_MODEL names the model that writes the prompts, OPTUNA_LLM_TASK_MODEL the one that they
are for. Without them it runs on stand-ins, without a key: the first changes numbers and swaps
words, the second (prompt_tuning_answerer.py) does what its prompt says of the form of answers.
"""

from collections.abc import Callable
import functools
import json
import os
from pathlib import Path

import optuna
from optuna.pruners import WilcoxonPruner
from optuna.trial import BaseTrial
from optuna.trial import TrialState
from prompt_tuning_answerer import Answerer

from optuna_llm import ChatModel
from optuna_llm import describe_study
from optuna_llm import explain_failures
from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import report_usage
from optuna_llm import suggest_text
from optuna_llm import usage
from optuna_llm.callbacks import ConsoleCallback
from optuna_llm.callbacks import MaxTokensCallback
from optuna_llm.evaluate import evaluate_cases
from optuna_llm.evaluate import validate
from optuna_llm.models import ModelLike
from optuna_llm.models import OpenAIModel


LINES = Path(__file__).with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
CASES = {case["question"]: case for case in map(json.loads, LINES)}
TRAINING = dict(list(CASES.items())[:40])
HELD_OUT = dict(list(CASES.items())[40:])
TASK = (
    "Write the instructions of a small model that answers questions on office notes. Its answers "
    "go into a database, so each must have the database's form to the letter: the value is the "
    "share of answers that are exactly right."
)
FORM = (
    "The system prompt, for all notes and questions alike. It must not hold answers: it is judged "
    "by other questions in the end."
)
START = "Answer the question on the note in up to 12 words. Write dates as YYYY-MM-DD."


@functools.cache
def open_task_model(name: str, temperature: float) -> ChatModel:
    if name == "offline":
        return Answerer({q: case["answer"] for q, case in CASES.items()}, temperature)
    return OpenAIModel(name, temperature=temperature)


def make_evaluate(trial: BaseTrial) -> Callable[[dict[str, str]], tuple[float, str]]:
    prompt = suggest_text(trial, "prompt", START, description=FORM)
    temperature = trial.suggest_float("temperature", 0, 1, step=0.1)
    name = os.environ.get("OPTUNA_LLM_TASK_MODEL", "offline")
    model = open_task_model(name, temperature)

    def evaluate(case: dict[str, str]) -> tuple[float, str]:
        question = f"Note: {case['note']}\n{case['question']}"
        reply = model.complete([Message("system", prompt), Message("user", question)])
        report_usage(trial, reply.usage, model=reply.model or name)
        given = reply.text.strip()
        if given == case["answer"]:
            return 1.0, ""
        return 0.0, f"{case['note']!r}: answered {given!r:.200}, not {case['answer']!r}"

    return evaluate


@explain_failures
def objective(trial: optuna.Trial) -> float:
    return evaluate_cases(trial, TRAINING, make_evaluate(trial), max_workers=8)


def main(
    n_trials: int = 12,
    model: ModelLike = None,
    storage: str | None = None,
    max_tokens: int = 200_000,
    seed: int = 0,
) -> optuna.Study:
    model = model or os.environ.get("OPTUNA_LLM_MODEL", "offline")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        direction="maximize",
        sampler=LLMSampler(TASK, model=model, seed=seed),
        # Of fewer than 14 cases, SciPy's test is exact and takes long.
        pruner=WilcoxonPruner(n_startup_steps=14),
    )
    describe_study(study, n_trials=n_trials, best_possible=1.0)
    # Both models' tokens count: what an answer costs is reported with its trial.
    callbacks = [ConsoleCallback(), MaxTokensCallback(max_tokens)]
    study.optimize(objective, n_trials, catch=LLMError, callbacks=callbacks)
    if not any(trial.state == TrialState.COMPLETE for trial in study.trials):
        raise SystemExit("\nNo prompt could be tried: the reasons are above.")
    print(f"\n{get_texts(study.best_trial)['prompt']}\n")
    print(f"{study.best_value:.0%} at temperature {study.best_params['temperature']:g}\n")
    print(validate(study, HELD_OUT, lambda trial, case: make_evaluate(trial)(case), max_workers=8))
    print(f"\n{usage(study)}")
    return study


if __name__ == "__main__":
    main()
