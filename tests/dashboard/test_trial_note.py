"""What the note on a trial says of its numbers."""

from __future__ import annotations

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
from test_notes import trial_note

from optuna_llm import LLMSampler
from optuna_llm.dashboard import annotate
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


def test_numbers_that_hardly_differ_are_written_to_the_digits_that_differ() -> None:
    space = {name: FloatDistribution(0, 10) for name in "CD"}
    study = optuna.create_study()
    for c, d, attributes in (
        (1.78528412345, 0.5, {"source": "base"}),
        (1.785284, 0.25, {"source": "model", "parent": 0}),
    ):
        study.add_trial(
            create_trial(
                value=1.0,
                params={"C": c, "D": d},
                distributions=space,
                user_attrs={"llm:proposal": attributes},
            )
        )
    annotate(study)
    assert r"C 1\.7852841 → **1\.785284**, D 0\.5 → **0\.25**" in trial_note(study, 1)


def test_a_rationale_on_parameters_that_its_trial_did_not_use_is_marked() -> None:
    def branch(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("kind", ["tree", "line"]) == "tree":
            return trial.suggest_int("max_depth", 1, 9)
        return trial.suggest_float("C", 0, 1)

    replies = [
        write_reply({"kind": "line", "C": 0.5, "max_depth": 3}, rationale="C and max_depth up."),
        write_reply({"kind": "tree", "C": 0.5, "max_depth": 3}, rationale="A max_depth of 3."),
    ]
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(replies)))
    study.enqueue_trial({"kind": "tree", "max_depth": 5})
    study.enqueue_trial({"kind": "line", "C": 0.1})
    study.optimize(branch, n_trials=4)
    annotate(study)
    notes = [trial_note(study, number).split("\n\n") for number in (2, 3)]
    assert notes[0][2:4] == [r"> C and max\_depth up\.", r"Not used by this trial: max\_depth"]
    assert notes[1][2] == r"> A max\_depth of 3\."
    assert not any(part.startswith("Not used") for part in notes[1])
