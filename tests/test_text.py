from __future__ import annotations

from collections.abc import Sequence
import json
import math
from pathlib import Path
import runpy
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FixedTrial
from optuna.trial import TrialState
from provenance import told
import pytest

from optuna_llm import explain_failures
from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import report_case
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    return x + len(suggest_text(trial, "code", "start", language="python"))


def count_replies(text: str = "proposal") -> ScriptedModel:
    """A model whose every proposal is a new one."""
    numbers = iter(range(1, 10**6))
    return ScriptedModel(
        lambda _: write_reply({"x": (n := next(numbers)) / 10**6}, {"code": f"{text} {n}"})
    )


def test_trial_0_takes_the_initial_text_and_the_model_writes_the_next() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=count_replies()))
    study.optimize(objective, n_trials=3)
    assert [get_texts(t)["code"] for t in study.trials] == ["start", "proposal 1", "proposal 2"]
    assert [told(t, "source") for t in study.trials] == [
        "initial",
        "model",
        "model",
    ]
    assert study.trials[1].user_attrs["code"] == "proposal 1"


def test_a_study_of_texts_alone_asks_the_model() -> None:
    model = ScriptedModel([write_reply(texts={"word": "b"}), write_reply(texts={"word": "c"})])
    study = optuna.create_study(sampler=LLMSampler(model=model))
    study.optimize(lambda t: ord(suggest_text(t, "word", "a")), n_trials=3)
    assert [t.value for t in study.trials] == [97, 98, 99]


def test_asked_twice_in_one_trial_the_text_is_the_same_and_seen_in_user_attrs() -> None:
    def twice(trial: optuna.Trial) -> float:
        first = suggest_text(trial, "code", "start")
        assert suggest_text(trial, "code", "start") == first == trial.user_attrs["code"]
        assert get_texts(trial) == {"code": first}
        return trial.suggest_float("x", 0, 1)

    model = count_replies()
    study = optuna.create_study(sampler=LLMSampler(model=model))
    study.optimize(twice, n_trials=3)
    assert len(model.calls) == 2


def test_several_texts_of_one_trial_come_in_one_call() -> None:
    def several(trial: optuna.Trial) -> float:
        return len(suggest_text(trial, "a", "1")) + len(suggest_text(trial, "b", "2"))

    model = ScriptedModel([write_reply(texts={"a": "three", "b": "four"})])
    study = optuna.create_study(sampler=LLMSampler(model=model))
    study.optimize(several, n_trials=2)
    assert get_texts(study.trials[0]) == {"a": "1", "b": "2"}
    assert get_texts(study.trials[1]) == {"a": "three", "b": "four"}


def test_with_another_sampler_every_text_is_the_initial_one() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=2)
    assert [get_texts(t) for t in study.trials] == [{"code": "start"}] * 2


def test_an_objective_run_again_on_the_best_trial_sees_its_texts() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=count_replies()))
    study.optimize(objective, n_trials=3)
    assert objective(study.best_trial) == study.best_value  # type: ignore[arg-type]


def test_a_fixed_trial_holds_texts_as_params_or_attributes() -> None:
    assert objective(FixedTrial({"x": 0.5, "code": "four"})) == 4.5  # type: ignore[arg-type]
    trial = FixedTrial({"x": 0.5})
    trial.set_user_attr("code", "three")
    assert objective(trial) == 5.5  # type: ignore[arg-type]


@pytest.mark.parametrize("trial", [FixedTrial({"x": 1.0}), optuna.trial.create_trial(value=1.0)])
def test_a_trial_that_does_not_run_must_hold_the_text(trial: Any) -> None:
    with pytest.raises(ValueError, match="holds no text 'code': set it as a user attribute"):
        suggest_text(trial, "code", "start")


class Captor:
    """Passes on to a trial and notes what it suggests, as Ray Tune's does."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.captured: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.trial, name)
        if not name.startswith("suggest_"):
            return value

        def suggest(key: str, *arguments: Any) -> Any:
            return self.captured.setdefault(key, value(key, *arguments))

        return suggest


def test_a_trial_that_somebody_has_wrapped_is_asked_for_its_texts() -> None:
    model = ScriptedModel([write_reply({"x": 0.5}, {"code": "y = 2"})])
    study = optuna.create_study(sampler=LLMSampler(model=model))
    texts = []
    for _ in range(2):
        trial = study.ask()
        wrapped: Any = Captor(trial)
        wrapped.suggest_float("x", 0, 1)
        texts.append(suggest_text(wrapped, "code", "y = 1"))
        report_feedback(wrapped, "Good.")
        report_case(wrapped, 0, 1.0, "fine", name="first")
        study.tell(trial, 0.0)
    assert texts == ["y = 1", "y = 2"]
    assert study.trials[1].params == {"x": 0.5}
    assert study.trials[1].user_attrs["feedback"] == "Good."
    assert study.trials[1].intermediate_values == {0: 1.0}


def test_an_enqueued_text_wins_and_the_rest_is_asked_for() -> None:
    model = ScriptedModel([write_reply({"x": 0.5}), write_reply(texts={"code": "theirs"})])
    study = optuna.create_study(sampler=LLMSampler(model=model))
    study.optimize(objective, n_trials=1)
    study.enqueue_trial({"x": 0.25}, user_attrs={"code": "mine"})
    study.enqueue_trial({}, user_attrs={"code": "mine too"})
    study.enqueue_trial({"x": 0.75})
    study.optimize(objective, n_trials=3)
    seen = [(t.params["x"], get_texts(t)["code"]) for t in study.trials[1:]]
    assert seen == [(0.25, "mine"), (0.5, "mine too"), (0.75, "theirs")]
    assert [told(t, "source") for t in study.trials[1:]] == ["user"] * 3
    first, second = (messages[1].content for messages in model.calls)
    assert "stays as it is:\ncode:\n```\nmine too\n```" in first
    assert 'stays as it is:\nnumbers: {"x": 0.75}' in second


def test_a_text_is_enqueued_among_the_params_too() -> None:
    model = ScriptedModel([write_reply({"x": 0.5})])
    study = optuna.create_study(sampler=LLMSampler(model=model))
    study.enqueue_trial({"x": 0.25, "code": "mine"})
    study.enqueue_trial({"code": "mine too"})
    study.optimize(objective, n_trials=2)
    seen = [(t.params["x"], get_texts(t)["code"], t.value) for t in study.trials]
    assert seen == [(0.25, "mine", 4.25), (0.5, "mine too", 8.5)]
    assert "mine" in model.calls[0][1].content


def test_a_trial_added_by_hand_is_shown_with_its_text_and_can_be_the_best() -> None:
    model = ScriptedModel([write_reply({"x": 0.5}, {"code": "next"})])
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=0))
    study.optimize(objective, n_trials=1)
    added = optuna.create_trial(
        params={"x": 0.25},
        distributions={"x": FloatDistribution(0, 1)},
        value=0.5,
        user_attrs={"code": "added by hand"},
    )
    study.add_trial(added)
    study.optimize(objective, n_trials=1)
    prompt = model.calls[0][1].content
    assert "added by hand" in prompt
    assert told(study.trials[2], "parent") == 1


def test_a_text_asked_for_twice_with_another_initial_text_is_refused() -> None:
    study = optuna.create_study()
    trial = study.ask()
    suggest_text(trial, "code", "a")
    with pytest.raises(ValueError, match=r"asked for the text 'code' before.*another name"):
        suggest_text(trial, "code", "b")
    # From trial to trial it may differ.
    assert suggest_text(study.ask(), "code", "b") == "b"


def resume(study: optuna.Study, **declared: Any) -> None:
    """Continue a study as another process does, with another declaration of its text."""
    study = optuna.load_study(
        study_name=study.study_name, storage=study._storage, sampler=LLMSampler(model="offline")
    )
    declared = {"initial": "1.5 + 2.25", "description": "A.", "language": "sql"} | declared
    study.optimize(lambda t: len(suggest_text(t, "code", **declared)), 3, catch=LLMError)


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({}, None),
        ({"initial": "3.5 + 1.25"}, "another initial text for the text 'code'"),
        ({"initial": "3.5 + 1.25"}, "study.enqueue_trial({'code': …}) tries it"),
        (
            {"initial": "3.5 + 1.25", "language": None},
            "another initial text and another language for",
        ),
        ({"description": "B."}, "another description for the text 'code'; the new"),
    ],
)
def test_a_study_resumed_with_another_declaration_says_once_what_differs(
    declared: dict[str, Any], says: str | None, logs: pytest.LogCaptureFixture
) -> None:
    study = optuna.create_study()
    resume(study)
    resume(study, **declared)
    said = [r.getMessage() for r in logs.records if "study had" in r.getMessage()]
    assert len(said) == (says is not None)
    assert all(str(says) in line for line in said)


def test_an_enqueued_trial_may_be_trial_0() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel([])))
    study.enqueue_trial({"x": 0.25}, user_attrs={"code": "mine"})
    study.optimize(objective, n_trials=1)
    assert study.trials[0].value == 4.25
    assert told(study.trials[0], "source") == "user"


def test_an_enqueued_parameter_that_is_no_string_is_refused_for_a_text() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel([])))
    study.enqueue_trial({"x": 0.25, "code": 5})
    with pytest.raises(ValueError, match="was given 5 for the text 'code'"):
        study.optimize(objective, n_trials=1)


@pytest.mark.parametrize(
    "name", ["", " ", "llm:x", "feedback", "code:1", 'a"b', "a<b", "a\nb", "\ud800", None]
)
def test_a_name_that_cannot_be_used_is_refused(name: Any) -> None:
    trial = optuna.create_study().ask()
    with pytest.raises(ValueError, match="name"):
        suggest_text(trial, name, "start")


def test_a_name_that_a_number_has_is_refused_either_way_round() -> None:
    study = optuna.create_study(sampler=LLMSampler(model="offline"))
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    with pytest.raises(ValueError, match="'x' is a number parameter"):
        suggest_text(trial, "x", "start")
    suggest_text(trial, "code", "start")
    with pytest.raises(ValueError, match="'code' is a text parameter"):
        trial.suggest_float("code", 0, 1)


def test_an_initial_text_that_is_no_string_is_refused() -> None:
    with pytest.raises(ValueError, match="initial text of 'code' must be a string or None: 5"):
        suggest_text(optuna.create_study().ask(), "code", 5)  # type: ignore[arg-type]


def test_a_new_process_knows_of_texts_before_its_first_trial(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(
        storage=storage, study_name="s", sampler=LLMSampler("T", model="offline")
    )
    study.ask().suggest_float("x", 0, 1)
    suggest_text(study.ask(), "code", "start", description="A program.", language="python")
    attributes = optuna.load_study(storage=storage, study_name="s").user_attrs
    assert attributes["llm:text:code"] == {
        "description": "A program.",
        "language": "python",
        "initial": "start",
    }
    assert attributes["llm:task"] == "T"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> optuna.storages.RDBStorage:
    """One database for all lengths, since to make one takes longer than to write to it."""
    return optuna.storages.RDBStorage(f"sqlite:///{tmp_path_factory.mktemp('texts')}/study.db")


@pytest.mark.parametrize("size", [1, 70_000])
@pytest.mark.parametrize("letter", ["a", "\n", "😀", "\ud800"])
def test_a_text_of_any_length_makes_the_round_trip(
    size: int, letter: str, storage: optuna.storages.RDBStorage
) -> None:
    text = letter * size + "end"
    study = optuna.create_study(storage=storage)
    study.optimize(lambda t: len(suggest_text(t, "code", text)), n_trials=1)
    (trial,) = study.trials
    assert get_texts(trial) == {"code": text}
    assert suggest_text(trial, "code", "other") == text
    pieces = [v for k, v in trial.user_attrs.items() if k.startswith("code")]
    assert all(len(json.dumps(piece)) <= 60_000 for piece in pieces)


def test_feedback_is_stored_and_the_last_word_counts() -> None:
    def talk(trial: optuna.Trial) -> float:
        report_feedback(trial, "first")
        report_feedback(trial, "last")
        return 0.0

    study = optuna.create_study()
    study.optimize(talk, n_trials=1)
    assert study.trials[0].user_attrs == {"feedback": "last"}


def test_feedback_too_long_to_be_stored_keeps_its_beginning_and_end() -> None:
    trial = optuna.create_study().ask()
    report_feedback(trial, "begin" + "字" * 100_000 + "end")
    stored = trial.user_attrs["feedback"]
    assert stored.startswith("begin")
    assert stored.endswith("end")
    assert "100,008 characters in all" in stored


def test_feedback_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a string: 0\.5"):
        report_feedback(optuna.create_study().ask(), 0.5)  # type: ignore[arg-type]


def test_the_traceback_of_a_failure_becomes_feedback_and_the_exception_goes_on() -> None:
    @explain_failures
    def fail(trial: optuna.Trial) -> float:
        report_feedback(trial, "So far so good.")
        raise RuntimeError("it broke")

    study = optuna.create_study()
    with pytest.raises(RuntimeError, match="it broke"):
        study.optimize(fail, n_trials=1)
    feedback = study.trials[0].user_attrs["feedback"]
    assert feedback.startswith("So far so good.\nTraceback")
    assert feedback.endswith("RuntimeError: it broke")
    assert "explained" not in feedback
    assert fail.__name__ == "fail"


def test_paths_in_a_traceback_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "folder" / "program.py"
    program.parent.mkdir()
    program.write_text("import json\ndef objective(trial):\n    return json.loads('?')\n")
    objective = explain_failures(runpy.run_path(str(program))["objective"])
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study()
    study.optimize(objective, n_trials=1, catch=Exception)
    feedback = study.trials[0].user_attrs["feedback"]
    assert '  File "folder/program.py", line 3, in objective\n' in feedback
    assert '  File "decoder.py", line ' in feedback
    assert feedback.endswith(
        "\njson.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
    )
    assert str(tmp_path) not in feedback

    def import_badly(trial: optuna.Trial) -> float:
        return FloatDistribution(1, 0).high

    study.optimize(explain_failures(import_badly), n_trials=1, catch=Exception)
    assert '  File "optuna/distributions.py", line ' in study.trials[1].user_attrs["feedback"]


@pytest.mark.parametrize(
    ("directions", "value", "says"),
    [
        (["minimize"], math.nan, "The objective returned nan, not a number."),
        (["minimize"], None, "The objective returned None, not a number."),
        (["minimize"], "good", "The objective returned 'good', not a number."),
        (["minimize"], (1.0, 2.0), "The objective returned (1.0, 2.0), not a number."),
        (["minimize"] * 2, 1.0, "The objective returned 1.0, not a number per objective."),
        (["minimize"] * 2, [1.0, math.nan], "returned [1.0, nan], not a number per objective."),
        (["minimize"], math.inf, None),
        (["minimize"], np.float32(1), None),
        (["minimize"], True, None),
        (["minimize"], [1.0], None),
        (["minimize"] * 2, (1, 2.0), None),
    ],
    ids=repr,
)
def test_a_value_that_is_no_number_is_a_failure_with_words(
    directions: list[str], value: Any, says: str | None
) -> None:
    study = optuna.create_study(directions=directions)
    study.optimize(explain_failures(lambda _: value), n_trials=1)
    (trial,) = study.trials
    assert (trial.state == TrialState.COMPLETE) == (says is None)
    feedback = trial.user_attrs.get("feedback")
    assert feedback is None if says is None else says in feedback


def test_an_int_that_no_float_can_hold_leaves_no_trial_running() -> None:
    study = optuna.create_study()
    study.optimize(explain_failures(lambda _: 10**400), n_trials=1, catch=OverflowError)
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[0].user_attrs["feedback"].endswith("int too large to convert to float")


def test_pruning_is_no_failure() -> None:
    @explain_failures
    def prune(trial: optuna.Trial) -> float:
        raise optuna.TrialPruned

    study = optuna.create_study()
    study.optimize(prune, n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].user_attrs == {}


def test_a_model_that_gives_no_proposal_is_no_failure_of_the_candidate() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(lambda _: "No.")))
    study.optimize(explain_failures(objective), n_trials=2, catch=LLMError)
    assert study.trials[1].state == TrialState.FAIL
    assert "feedback" not in study.trials[1].user_attrs


def test_a_trial_that_is_done_again_keeps_the_numbers_it_had() -> None:
    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_int("x", 0, 9) + trial.suggest_int("y", 0, 9)

    asked = []

    def answer(messages: Sequence[Message]) -> str:
        asked.append(messages)
        return write_reply({"y": 3})

    study = optuna.create_study(sampler=LLMSampler(model=answer))
    study.enqueue_trial({"x": 1, "y": 1})
    study.optimize(objective, n_trials=1)
    space = {"x": optuna.distributions.IntDistribution(0, 9)}
    again = optuna.create_trial(state=TrialState.WAITING, params={"x": 7}, distributions=space)
    study.add_trial(again)
    study.optimize(objective, n_trials=1)
    assert study.trials[1].params == {"x": 7, "y": 3}
    assert 'numbers: {"x": 7}' in asked[0][1].content
