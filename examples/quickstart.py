"""Improve a program and a number at once: a classifier of handwritten digits.

Runs as is, with a rule-based stand-in for the model. To use a language model, set OPENAI_API_KEY
and OPTUNA_LLM_MODEL=gpt-… (or pass LLMSampler(model="gpt-…")).
"""

import argparse
import os

import optuna
from optuna.trial import TrialState
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

from optuna_llm import explain_failures
from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.dashboard import DashboardNotes
from optuna_llm.evaluate import run_python


START = """\
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

clf = make_pipeline(PCA(n_components=5), SVC(C=C, gamma=0.01))
"""
PREDICT = "predicted = clf.fit(train_x, train_y).predict(test_x)"
TASK = "Classify images of handwritten digits (8 x 8 pixels, 0 to 16) as accurately as possible."
TRAIN_X, TEST_X, TRAIN_Y, TEST_Y = train_test_split(
    *load_digits(return_X_y=True), test_size=0.5, shuffle=False
)


@explain_failures  # If it raises, the trial fails and the model reads why.
def objective(trial: optuna.Trial) -> float:
    C = trial.suggest_float("C", 1e-3, 1e3, log=True)
    code = suggest_text(
        trial,
        "code",
        START,
        language="python",
        description="Makes `clf`, a scikit-learn classifier not yet fitted. May use the number C.",
    )
    # In a process of its own, which never sees the labels that it is scored by.
    inputs = {"C": C, "train_x": TRAIN_X, "train_y": TRAIN_Y, "test_x": TEST_X}
    run = run_python(f"{code}\n{PREDICT}", inputs=inputs, outputs=["predicted"], timeout=60)
    if not run.ok:
        raise RuntimeError(run.feedback)
    return float(accuracy_score(TEST_Y, run.values["predicted"]))


def show_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    if trial.state == TrialState.COMPLETE:
        note = "  best so far" if study.best_trial.number == trial.number else ""
        result = f"accuracy {trial.value:.4f}, C = {trial.params['C']:.4g}{note}"
    else:
        proposal = trial.user_attrs.get("llm:proposal", {})
        reason = trial.user_attrs.get("feedback") or proposal.get("error") or "see the log"
        result = f"failed: {reason.splitlines()[-1]}"
    print(f"trial {trial.number:2d}: {result}", flush=True)


def main(storage: str = "sqlite:///quickstart.db", n_trials: int = 30) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = LLMSampler(TASK, model=os.environ.get("OPTUNA_LLM_MODEL", "offline"), seed=0)
    study = optuna.create_study(
        direction="maximize",
        sampler=sampler,
        storage=storage,
        study_name="quickstart",
        load_if_exists=True,
    )
    # For the dashboard: why each trial was proposed, what it changes and how it did.
    callbacks = [show_trial, DashboardNotes()]
    study.optimize(objective, n_trials, catch=Exception, callbacks=callbacks)
    if not study.get_trials(states=[TrialState.COMPLETE]):
        raise SystemExit("No trial has succeeded: the reasons are above.")
    best = study.best_trial
    print(f"\nThe best of {len(study.trials)} trials: accuracy {best.value:.4f}, {best.params}\n")
    print(get_texts(best)["code"])
    print(f"Stored in {storage}: run this again to go on, or look: optuna-dashboard {storage}")
    return study


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("storage", nargs="?", default="sqlite:///quickstart.db")
    parser.add_argument("n_trials", nargs="?", default=30, type=int)
    arguments = parser.parse_args()
    try:
        main(arguments.storage, arguments.n_trials)
    except LLMError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
