"""Improve a program and a number at once: a classifier of handwritten digits.

Runs as is, with a rule-based stand-in for the model. To use a language model, set OPENAI_API_KEY
and OPTUNA_LLM_MODEL=gpt-… (or pass LLMSampler(model="gpt-…")).
"""

import os
import sys

import optuna
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from optuna_llm import explain_failures
from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.dashboard import DashboardNotes


START = """\
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

clf = make_pipeline(PCA(n_components=5), SVC(C=C, gamma=0.01))
"""
TASK = "Classify images of handwritten digits (8 x 8 pixels, 0 to 16) as accurately as possible."
TRAIN_X, TEST_X, TRAIN_Y, TEST_Y = train_test_split(
    *load_digits(return_X_y=True), test_size=0.5, shuffle=False
)


@explain_failures
def objective(trial: optuna.Trial) -> float:
    C = trial.suggest_float("C", 1e-3, 1e3, log=True)
    code = suggest_text(
        trial,
        "code",
        START,
        language="python",
        description="Makes `clf`, a scikit-learn classifier not yet fitted. May use the number C.",
    )
    names = {"C": C}
    exec(code, names)  # Runs what the model wrote: fine for the stand-in, else use a sandbox.
    return names["clf"].fit(TRAIN_X, TRAIN_Y).score(TEST_X, TEST_Y)


def show_improvement(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    if trial.state == optuna.trial.TrialState.FAIL:
        reason = trial.user_attrs.get("feedback", "no reason is known").splitlines()[-1]
        print(f"trial {trial.number:2d}: failed, {reason}")
    elif study.best_trial.number == trial.number:
        start = " (the start)" if trial.number == 0 else ""
        print(
            f"trial {trial.number:2d}: accuracy {trial.value:.4f}, C = {trial.params['C']}{start}"
        )


def main(storage: str = "sqlite:///quickstart.db", n_trials: int = 40) -> optuna.Study:
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
    callbacks = [show_improvement, DashboardNotes()]
    study.optimize(objective, n_trials, catch=Exception, callbacks=callbacks)
    best = study.best_trial
    print(f"\nThe best of {len(study.trials)} trials: accuracy {best.value:.4f}, {best.params}\n")
    print(best.user_attrs["code"])
    print(f"Stored in {storage}: run this again to go on, or look: optuna-dashboard {storage}")
    return study


if __name__ == "__main__":
    main(*sys.argv[1:])
