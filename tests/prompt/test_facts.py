"""What a user tells of a study, what a model may answer besides values, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import TrialState
from provenance import only_models
from provenance import told
import pytest

from optuna_llm import describe_study
from optuna_llm import explain_failures
from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


def make_study(replies: Any, **arguments: Any) -> tuple[optuna.Study, ScriptedModel]:
    model = ScriptedModel(replies)
    sampler = LLMSampler(model=model, seed=0, **arguments)
    return optuna.create_study(sampler=sampler), model


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 100)


def walk(*values: float) -> list[str]:
    return [write_reply({"x": value}, rationale="Go on.") for value in values]


def test_what_is_told_of_a_study_is_in_the_prompt() -> None:
    study, model = make_study(walk(5, 4))
    describe_study(study, task="Go down.", n_trials=40, noise=0)
    describe_study(study, best_possible=1.5, target_value=2)
    study.optimize(objective, n_trials=3)
    system, user = (message.content for message in model.calls[-1])
    assert "# Task\nGo down.\n" in system
    assert "The same values always give the same result." in system
    assert "No trial can be better than 1.5." in system
    assert "38 of 40 trials are left, this one included." in user
    assert "The study's goal is value 2 or less." in user


def test_a_sampler_at_work_learns_what_is_told_later() -> None:
    study, model = make_study(walk(5, 4))
    study.optimize(objective, n_trials=2)
    describe_study(study, n_trials=10)
    study.optimize(objective, n_trials=1)
    assert "8 of 10 trials are left" in model.calls[-1][1].content


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n_trials": 0}, "n_trials must be an int of 1 or more: 0"),
        ({"noise": -1.0}, "noise must be 0 or more: -1.0"),
        ({"best_possible": float("nan")}, "best_possible must be a finite number: nan"),
    ],
)
def test_facts_that_cannot_be_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        describe_study(optuna.create_study(), **arguments)


def test_of_several_objectives_no_single_value_can_be_the_goal() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="target_value is for studies of one objective"):
        describe_study(study, target_value=1.0)


def test_who_decided_a_trial_stands_at_its_head_unless_it_was_the_model() -> None:
    study, model = make_study(["?"] * 3 + walk(5))
    study.optimize(objective, n_trials=2)
    study.enqueue_trial({"x": 7})
    study.optimize(objective, n_trials=2)
    prompt = model.calls[-1][1].content
    assert "## Trial 0 (base sampler): " in prompt
    assert "## Trial 1 (base sampler): " in prompt
    assert "## Trial 2 (user): value 7" in prompt


def test_trials_of_others_are_no_failure_of_the_models_direction() -> None:
    study, model = make_study(walk(1, 2))
    study.optimize(objective, n_trials=2)
    for _ in range(12):
        study.enqueue_trial({"x": 50})
    study.optimize(objective, n_trials=13)
    assert "gained nothing" not in model.calls[-1][1].content


def test_a_model_that_sees_nothing_to_gain_leaves_the_trial_to_the_base_sampler(
    logs: pytest.LogCaptureFixture,
) -> None:
    study, _ = make_study(walk(1) + ["<pass>All is tried.</pass>"] * 3)
    study.optimize(objective, n_trials=5)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 5
    assert [told(t, "source") for t in study.trials[2:]] == ["base"] * 3
    assert told(study.trials[2], "rationale") == "The model passed: All is tried."
    assert told(study.trials[2], "calls") == 1
    said = [r for r in logs.records if "All is tried" in r.getMessage()]
    assert len(said) == 1


def test_a_pass_where_a_text_is_needed_asks_for_another_way() -> None:
    replies = ["<pass>Enough.</pass>", write_reply(texts={"code": "bb"})]
    study, model = make_study(replies)
    study.optimize(lambda t: len(suggest_text(t, "code", "a")), n_trials=2)
    assert get_texts(study.trials[1]) == {"code": "bb"}
    assert "try something of another kind" in model.calls[1][1].content


def test_a_pass_is_offered_only_where_the_base_sampler_can_stand_in() -> None:
    def objective(trial: optuna.Trial) -> float:
        if has_text:
            suggest_text(trial, "code", "a")
        return trial.suggest_float("x", 0, 100)

    offered = []
    for has_text in (False, True):
        texts = iter("bcd")
        study, model = make_study(
            lambda _, has_text=has_text, texts=texts: write_reply(
                {"x": 3}, {"code": next(texts)} if has_text else {}
            )
        )
        describe_study(study, best_possible=3)
        study.enqueue_trial({"x": 3})
        study.optimize(objective, n_trials=2)
        prompt = model.calls[-1][1].content
        assert "; none can be better than trial 0." in prompt
        offered.append("<pass>" in prompt)
    assert offered == [True, False]


def test_trials_within_the_noise_can_be_measured_again() -> None:
    values = iter([5.0, 4.0, 4.01, 3.9, 3.0])
    replies = [*walk(10, 20), '<rationale>Which?</rationale>\n<repeat trial="1"/>', *walk(30)]
    study, model = make_study(replies)
    describe_study(study, noise=0.1)

    def measure(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 100)
        return next(values)

    study.optimize(measure, n_trials=5)
    assert study.trials[3].params == study.trials[1].params == {"x": 10.0}
    assert "Trials 1, 2 differ by no more than noise." in model.calls[2][1].content
    prompt = model.calls[3][1].content
    assert "## Trial 3: value 3.9, the values of trial 1: mean 3.95 of 2\n" in prompt
    assert "The best trials, the best first: 1 (3.95), 2 (4.01), 0 (5)." in prompt


@pytest.mark.parametrize(
    "reply",
    [
        '<repeat trial="0"/>\n' + write_reply({"x": 3.0}),
        "<pass>No.</pass>\n" + write_reply({"x": 3.0}),
        '<pass>No.</pass><repeat trial="0"/>',
        '<repeat trial="99"/>',
    ],
)
def test_values_a_repeat_and_a_pass_in_one_reply_are_refused(reply: str) -> None:
    study, model = make_study([reply, *walk(1)])
    study.optimize(objective, n_trials=2)
    assert study.trials[1].params == {"x": 1.0}
    assert "# Your last reply could not be used" in model.calls[1][1].content


def test_tags_inside_of_a_text_are_text() -> None:
    code = 'print("<pass>x</pass>")\n<repeat trial="0"/>'
    study, _ = make_study([write_reply(texts={"code": code})])
    study.optimize(lambda t: len(suggest_text(t, "code", "a")), n_trials=2)
    assert get_texts(study.trials[1]) == {"code": code}


def test_a_model_writes_the_first_text_if_there_is_none() -> None:
    study, model = make_study([write_reply(texts={"code": "first"})])

    def score(trial: optuna.Trial) -> float:
        return len(suggest_text(trial, "code", None, description="A word."))

    study.optimize(score, n_trials=1)
    assert get_texts(study.trials[0]) == {"code": "first"}
    assert told(study.trials[0], "source") == "model"
    system, user = (message.content for message in model.calls[0])
    assert '- "code": A word.' in system
    assert 'There is no "code" to start from: write the first one.' in user


def test_without_a_model_a_text_needs_an_initial_value() -> None:
    study = optuna.create_study()
    with pytest.raises(ValueError, match="use an LLMSampler"):
        study.optimize(lambda t: len(suggest_text(t, "code", None)), n_trials=1)


def test_choices_are_counted_and_conditions_are_told() -> None:
    def ask(trial: optuna.Trial) -> float:
        kind = trial.suggest_categorical("kind", ["a", "b", "c"])
        return trial.suggest_float("x", 0, 9) if kind == "b" else float(trial.number)

    def answer(messages: Sequence[Message]) -> str:
        n = len(model.calls)
        known = {"x": n / 2} if '"x"' in messages[0].content else {}
        return write_reply({"kind": "ab"[n % 2], **known})

    model = ScriptedModel(answer)
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=0))
    study.enqueue_trial({"kind": "a"})
    study.optimize(ask, n_trials=12)
    prompt = model.calls[-1][1].content
    assert '# Choices, as far as they were tried\n\n- kind: "a" ' in prompt
    assert 'x, best 0; "b" ' in prompt
    assert '"c" never\n- x: used only with kind "b"\n' in prompt
    assert '- kind: "a" ' not in model.calls[3][1].content


def answer_with_insights(messages: Sequence[Message]) -> str:
    reply = write_reply({"x": len(messages[1].content) % 97 + 0.5}, rationale="word " * 40)
    if "<insights>" not in messages[1].content:
        return reply
    lines = "\n".join(f"- Lesson {i}: <b>``` # Now" for i in range(9))
    return f"{reply}\n<insights>\n{lines}\n</insights>"


def long_winded(trial: optuna.Trial) -> float:
    report_feedback(trial, f"Feedback {trial.number}. " + "and on " * 40)
    return trial.suggest_float("x", 0, 100) + trial.number


def test_what_a_cut_leaves_out_is_kept_in_the_models_words() -> None:
    study, model = make_study(answer_with_insights, max_prompt_tokens=4_000, max_reply_retries=0)
    study.optimize(long_winded, n_trials=40)
    prompts = [user.content for _, user in model.calls]
    asked = [i for i, prompt in enumerate(prompts) if "write, besides the above" in prompt]
    assert len(asked) >= 2
    # They are shown from the next call on, at the head of the history, six of them.
    head = "# What earlier trials have taught, in your words\n\n- Lesson 0: "
    assert head not in prompts[asked[0]]
    assert all(prompt.startswith(head) for prompt in prompts[asked[0] + 1 :])
    assert "Lesson 5" in prompts[-1]
    assert "Lesson 6" not in prompts[-1]
    assert len(study.user_attrs["llm:insights"]) == 6
    # Another worker knows them from the study.
    other = LLMSampler(model="offline", max_prompt_tokens=2_000)
    assert str(other.preview(study)).count("Lesson 0") == 1


def test_insights_can_be_left_out() -> None:
    study, model = make_study(
        answer_with_insights, max_prompt_tokens=4_000, insights=False, max_reply_retries=0
    )
    study.optimize(long_winded, n_trials=30)
    assert not any("<insights>" in user.content for _, user in model.calls)
    assert "llm:insights" not in study.user_attrs


def test_numbers_of_trials_without_values_are_accounted_for() -> None:
    study, model = make_study(walk(5, 4))
    study.optimize(objective, n_trials=2)
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))
    study.optimize(objective, n_trials=1)
    assert "Trials whose numbers are missing failed" not in model.calls[0][1].content
    assert "Trials whose numbers are missing failed" in model.calls[1][1].content


def test_the_aim_is_no_further_than_the_goal() -> None:
    study, model = make_study(walk(9, 8, 7, 6), max_reply_retries=0)
    describe_study(study, target_value=6.5)
    study.enqueue_trial({"x": 10})
    study.optimize(objective, n_trials=5)
    assert "aim at value 6.5 or less" in model.calls[-1][1].content
    assert "The study's goal" not in model.calls[-1][1].content


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"]])
def test_while_no_trial_is_feasible_a_feasible_one_is_wanted(directions: list[str]) -> None:
    model = ScriptedModel(walk(50, 20, 30))
    study = optuna.create_study(
        directions=directions,
        sampler=LLMSampler(
            model=model,
            seed=0,
            base_sampler=optuna.samplers.RandomSampler(seed=0),
        ),
    )

    def constrained(trial: optuna.Trial) -> float | list[float]:
        x = trial.suggest_float("x", 0, 100)
        study._storage.set_trial_system_attr(trial._trial_id, "constraints", [x - 25])
        return x if len(directions) == 1 else [x, -x]

    study.enqueue_trial({"x": 90})
    study.optimize(constrained, n_trials=4)
    before, after = model.calls[1][1].content, model.calls[2][1].content
    assert "Propose trial 2: one that is feasible, which none is yet." in before
    if len(directions) == 2:
        assert "# No trial is feasible yet; those that come nearest" in before
    assert "feasible, which none is" not in after
    assert "No trial is feasible" not in after


def test_a_long_text_that_has_just_failed_can_be_repaired() -> None:
    broken = "".join(f"step_{i}()\n" for i in range(400))
    replies = [write_reply({}, {"code": text}, "New.") for text in (broken, "a = 1", "a = 2")]
    study, model = make_study(replies)

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", "a = 0", language="python")
        if text == broken:
            raise ValueError("step_7 is not defined")
        return float(text[-1])

    study.optimize(objective, n_trials=4, catch=ValueError)
    after, later = model.calls[1][1].content, model.calls[2][1].content
    assert 'Trial 1 failed. If it is worth a repair: its "code" is\n' in after
    assert after.count(broken) == 1
    assert broken not in later
    assert "step_399()" in later  # The ends of it stay in the history.


def test_of_a_failure_long_ago_the_error_is_what_stays() -> None:
    values = iter(range(1, 99))
    study, model = make_study(
        lambda _: write_reply({"x": next(values)}),
        max_prompt_tokens=1_200,
        proposers=only_models,
    )

    @explain_failures
    def fail(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 100)
        if x:
            raise ArithmeticError(f"no square root of minus {x:g}")
        return x

    study.enqueue_trial({"x": 0})
    study.optimize(fail, n_trials=30, catch=ArithmeticError)
    last = model.calls[-1][1].content
    [line] = [line for line in last.splitlines() if line.startswith("- trial 20: ")]
    assert "ArithmeticError: no square root of minus" in line
