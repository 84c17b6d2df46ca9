"""Proposals of people and agents: checked as a model's, enqueued, and run as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import re
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from provenance import told
import pytest
from storage_worker import open_storage
from test_storages import new_database
from test_storages import POSTGRESQL

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import propose
from optuna_llm import ReplyError
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


START = "def f(x):\n    return x\n"


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -5, 5)
    kind = trial.suggest_categorical("kind", ["plain", "powers"])
    n = trial.suggest_int("n", 1, 3) if kind == "powers" else 1
    return abs(x) ** n + len(suggest_text(trial, "code", START, language="python"))


def make_study(*replies: str) -> tuple[optuna.Study, ScriptedModel]:
    """A study with three trials, one of which has done without a parameter."""
    model = ScriptedModel(replies)
    study = optuna.create_study(sampler=LLMSampler("Be short.", model=model, seed=0))
    for values in ({"x": 1.0, "kind": "plain"}, {"x": 2.0, "kind": "powers", "n": 2}):
        study.enqueue_trial({**values, "code": START})
    study.optimize(objective, n_trials=2)
    return study, model


def test_a_proposal_is_run_as_it_is_and_tells_who_made_it() -> None:
    study, model = make_study()
    values = {"x": -0.5, "kind": "powers", "n": 3, "code": "def f(x): return x"}
    number = propose(study, values, rationale="One line.", proposer=" Ada ", parent=1)
    assert number == 2
    waiting = study.trials[2]
    assert waiting.state == TrialState.WAITING
    assert get_texts(waiting) == {"code": "def f(x): return x"}
    study.optimize(objective, n_trials=1)
    trial = study.trials[2]
    assert trial.params == {"x": -0.5, "kind": "powers", "n": 3}
    assert get_texts(trial) == {"code": "def f(x): return x"}
    fields = {name: told(trial, name) for name in ("source", "proposer", "rationale", "parent")}
    assert fields == {"source": "user", "proposer": "Ada", "rationale": "One line.", "parent": 1}
    assert model.calls == []
    assert "rationale: One line." in str(study.sampler.preview(study))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "reply",
    [
        write_reply({"x": 0.5, "kind": "plain"}, {"code": "short"}, "Shorter."),
        'Here it is: <rationale>Shorter.</rationale><numbers>{"x": 0.5, "kind": "plain"}</numbers>'
        '<text name="code">\nshort\n</text>',
        '{"rationale": "Shorter.", "numbers": {"x": 0.5, "kind": "plain"}, '
        '"texts": {"code": "short"}}',
        '{"rationale": "Shorter.", "x": 0.5, "kind": "plain", "code": "short"}',
    ],
)
def test_a_reply_is_read_as_a_models(reply: str) -> None:
    study, _ = make_study()
    study.optimize(objective, n_trials=propose(study, reply) - 1)
    trial = study.trials[2]
    assert trial.params == {"x": 0.5, "kind": "plain"}
    assert get_texts(trial) == {"code": "short"}
    assert told(trial, "rationale") == "Shorter."
    assert told(trial, "parent") is None


def test_a_reply_may_edit_the_text_of_a_trial_that_it_names() -> None:
    study, _ = make_study()
    reply = (
        '<numbers>{"x": 0, "kind": "plain"}</numbers>\n<edit name="code"%s>\n<<<<<<< SEARCH\n'
        "    return x\n=======\n    return 2 * x\n>>>>>>> REPLACE\n</edit>"
    )
    with pytest.raises(ReplyError, match='there is no "code" to start from: name a trial'):
        propose(study, reply % "")
    propose(study, reply % ' of="1"')
    study.optimize(objective, n_trials=1)
    assert get_texts(study.trials[2])["code"] == "def f(x):\n    return 2 * x\n"
    assert told(study.trials[2], "parent") == 1


def test_a_repeat_is_enqueued_and_a_pass_is_not() -> None:
    study, _ = make_study()
    number = propose(study, '<rationale>Noise?</rationale><repeat trial="1"/>')
    study.optimize(objective, n_trials=1)
    assert study.trials[number].params == study.trials[1].params
    assert get_texts(study.trials[number]) == get_texts(study.trials[1])
    with pytest.raises(ReplyError, match="passes, so there is nothing to enqueue"):
        propose(study, "<pass>Nothing is left.</pass>")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I would go lower.",
        write_reply({"x": 9, "kind": "plain"}, {"code": "a"}),
        write_reply({"x": 9, "kind": "other"}, {"code": "a"}),
        write_reply({"kind": "plain"}, {"code": "a"}),
        write_reply({"x": 0, "kind": "plain", "y": 1}, {"code": "a"}),
        write_reply({"x": 0, "kind": "plain"}),
        write_reply({"x": 0, "kind": "plain"}, {"code": " "}),
        write_reply({"x": 1.0, "kind": "plain"}, {"code": START}),
    ],
)
def test_what_is_wrong_is_said_in_the_words_that_a_model_reads(reply: str) -> None:
    study, model = make_study(reply, write_reply({"x": 0, "kind": "plain"}, {"code": "b"}))
    with pytest.raises(ReplyError) as caught:
        propose(study, reply)
    assert len(study.trials) == 2
    study.optimize(objective, n_trials=1)
    assert f"What is wrong: {caught.value}\n" in model.calls[1][1].content


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x": 9}, '"x": 9 is not allowed; it must be float from -5.0 to 5.0.'),
        ({"x": [1]}, '"x": [1] is not allowed'),
        ({"x": {1}}, '"x": "{1}" is not allowed'),
        ({"y": 1}, 'there is no number parameter "y"; the parameters are "kind", "n", "x".'),
        ({"code": 5}, '"code" must be a string.'),
        ({"code": ""}, '"code" in "texts" is empty.'),
        ({"x": None}, '"x": null is not allowed'),
    ],
)
def test_a_value_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    study, _ = make_study()
    with pytest.raises(ReplyError, match=re.escape(said)):
        propose(study, {"x": 0.5, "kind": "plain", "code": "a", **changes})
    assert len(study.trials) == 2


@pytest.mark.parametrize(
    ("left_out", "said"),
    [("x", '"numbers" lacks "x".'), ("code", 'there is no "code" in "texts"')],
)
def test_a_value_that_is_missing_is_named(left_out: str, said: str) -> None:
    values = {"x": 0.5, "kind": "plain", "code": "a"}
    del values[left_out]
    study, _ = make_study()
    with pytest.raises(ReplyError, match=re.escape(said)):
        propose(study, values)


def test_numbers_of_numpy_are_stored_as_plain_ones() -> None:
    study, _ = make_study()
    values = {"x": np.float32(0.5), "kind": "powers", "n": np.int64(2), "code": "a"}
    propose(study, values)
    study.optimize(objective, n_trials=1)
    assert study.trials[2].params == {"x": 0.5, "kind": "powers", "n": 2}


def test_values_that_wait_are_given_to_nobody_else() -> None:
    taken = {"x": 0.5, "kind": "plain"}
    other = {"x": 0.25, "kind": "plain"}
    replies = [write_reply(taken, {"code": "a"}), write_reply(other, {"code": "a"})]
    study, model = make_study(*replies)
    number = propose(study, {**taken, "code": "a"})
    with pytest.raises(ReplyError, match=f"trial {number} has these values already"):
        propose(study, {**taken, "code": "a\n\n"})
    # Asked while the proposal still waits.
    begun = study.ask()
    assert begun.number == number
    with pytest.raises(ReplyError, match=f"trial {number} has these values already"):
        propose(study, {**taken, "code": "a"})
    third = study.ask()
    assert third.suggest_float("x", -5, 5) == 0.25
    assert f"trial {number} has these values already" in model.calls[1][1].content


def test_a_proposal_needs_parameters_and_a_parent_that_exist() -> None:
    study = optuna.create_study()
    with pytest.raises(ValueError, match="No parameter is known yet"):
        propose(study, {"x": 1})
    study, _ = make_study()
    with pytest.raises(ValueError, match="parent=7 is not the number of a finished trial"):
        propose(study, {"x": 0, "kind": "plain", "code": "a"}, parent=7)
    with pytest.raises(TypeError, match="a mapping of values or a reply as a string: 5"):
        propose(study, 5)  # type: ignore[arg-type]


def test_what_the_sampler_decides_of_an_enqueued_trial_leaves_its_reason() -> None:
    study, _ = make_study(write_reply({"n": 3}, rationale="The model's."))
    propose(study, {"x": 0.5, "kind": "powers", "code": "a"}, rationale="Mine.", parent=0)
    study.optimize(objective, n_trials=1)
    trial = study.trials[2]
    assert trial.params == {"x": 0.5, "kind": "powers", "n": 3}
    assert told(trial, "source") == "user"
    assert told(trial, "rationale") == "Mine."
    assert told(trial, "parent") == 0
    assert told(trial, "calls") == 1


@pytest.fixture(
    params=["sqlite", "journal-file", pytest.param("postgresql", marks=pytest.mark.slow)]
)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgresql":
        with new_database(POSTGRESQL, '"') as url:
            yield url
    else:
        yield {
            "sqlite": f"sqlite:///{tmp_path}/study.db",
            "journal-file": f"journal-file:{tmp_path}/journal.log",
        }[request.param]


def test_any_worker_runs_a_proposal_from_any_storage(address: str) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(address))
    study.enqueue_trial({"kind": "powers"})
    study.optimize(objective, n_trials=1)
    code = "# 字😀\n" * 20_000
    for x in (0.1, 0.2):
        values = {"x": x, "kind": "powers", "n": 2, "code": code}
        propose(study, values, rationale="Long.", proposer="Ada")
    for sampler in (LLMSampler(model=ScriptedModel([])), optuna.samplers.RandomSampler()):
        worker = optuna.load_study(study_name="s", storage=open_storage(address), sampler=sampler)
        worker.optimize(objective, n_trials=1)
    trials = optuna.load_study(study_name="s", storage=open_storage(address)).trials
    for trial, x in zip(trials[1:], (0.1, 0.2), strict=True):
        assert trial.state == TrialState.COMPLETE
        assert trial.params == {"x": x, "kind": "powers", "n": 2}
        assert get_texts(trial) == {"code": code}
        told_of = [told(trial, name) for name in ("source", "proposer", "rationale")]
        assert told_of == ["user", "Ada", "Long."]
