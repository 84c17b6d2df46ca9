from __future__ import annotations

import re
from typing import Any

import optuna
from provenance import told
import pytest

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import OfflineModel
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel


def optimize(objective: Any, n_trials: int, seed: int = 0) -> optuna.Study:
    study = optuna.create_study(sampler=LLMSampler(model=OfflineModel(seed), seed=seed))
    study.optimize(objective, n_trials)
    return study


def sphere(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(f"x{i}", -10, 10) ** 2 for i in range(2))


def sphere_in_text(trial: optuna.Trial) -> float:
    a, b = map(float, suggest_text(trial, "point", "[8.5, 6]").strip("[]").split(","))
    return a * a + b * b


@pytest.mark.parametrize(("objective", "start"), [(sphere, 40.0), (sphere_in_text, 108.25)])
def test_it_improves_numbers_and_numbers_in_texts(objective: Any, start: float) -> None:
    assert optimize(objective, 60, seed=0).best_value < start / 10


def test_every_proposal_is_within_its_distribution() -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 1e-7, 1e-1, log=True)
        trial.suggest_float("half", -1.5, 3, step=0.5)
        trial.suggest_int("n", -7, 11, step=3)
        trial.suggest_int("units", 1, 1024, log=True)
        trial.suggest_categorical("kind", ["a", 'b "quoted"', 2, 0.5, True, None])
        return trial.suggest_float("x", 0, 1)

    study = optimize(objective, 40)
    answered = [t for t in study.trials if told(t, "source") == "model"]
    assert len(answered) == 39
    assert len({t.params["kind"] for t in answered}) > 3


def test_it_reads_nothing_but_the_messages() -> None:
    model = OfflineModel(3)
    recorder = ScriptedModel(model.complete)
    study = optuna.create_study(sampler=LLMSampler(model=recorder, seed=0))
    study.optimize(lambda t: sphere(t) + sphere_in_text(t), n_trials=5)
    again = [OfflineModel(3).complete(messages) for messages in recorder.calls]
    assert again == [model.complete(messages) for messages in recorder.calls]
    assert OfflineModel(4).complete(recorder.calls[0]) != again[0]


@pytest.mark.parametrize("start", ["no number here at all", "word", "one two"])
def test_a_text_without_numbers_is_changed_all_the_same(start: str) -> None:
    study = optimize(lambda t: len(suggest_text(t, "prose", start)), 2)
    assert get_texts(study.trials[1])["prose"] != start


@pytest.mark.parametrize(
    ("start", "pattern"),
    [("a1 = x2.y3 + v_4", r"a1 = x2\.y3 \+ v_4"), ("rate = 1e-3", r"rate = [\d.e-]+")],
)
def test_digits_within_names_are_no_numbers(start: str, pattern: str) -> None:
    study = optimize(lambda t: len(suggest_text(t, "code", start + " or 50")), 4)
    for trial in study.trials:
        assert re.match(pattern + " or \\d+$", get_texts(trial)["code"])


def test_it_says_what_it_is() -> None:
    study = optimize(sphere, 2)
    assert told(study.trials[1], "model") == "offline"
    assert "tand-in" in told(study.trials[1], "rationale")
    assert "understands nothing" in (OfflineModel.__doc__ or "")


@pytest.mark.parametrize("words", ["{}", "File /home/a/b.py\nline {}", "```\n{}\n"])
def test_its_proposals_do_not_depend_on_what_evaluators_say(words: str) -> None:
    def explained(trial: optuna.Trial) -> float:
        report_feedback(trial, words.format(trial.number))
        return sphere(trial)

    said, silent = optimize(explained, 12), optimize(sphere, 12)
    assert [trial.params for trial in said.trials] == [trial.params for trial in silent.trials]
