from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import copy
import gc
import itertools
from pathlib import Path
import pickle
import re
import subprocess
import sys
import threading
from typing import Any
import weakref

import optuna
from optuna.trial import TrialState
from provenance import told
import pytest

from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import OfflineModel
from optuna_llm import ReplyError
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm import Usage
from optuna_llm._records import Completion
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


def parabola(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -10, 10) ** 2 + trial.suggest_int("n", 0, 9)


def mixed(trial: optuna.Trial) -> float:
    """Numbers of each kind, one of them conditional, and two texts."""
    kind = trial.suggest_categorical("kind", ["a", 2, 0.5, True, None])
    x = trial.suggest_float("x", -10, 10)
    lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    half = trial.suggest_float("half", 0, 3, step=0.5)
    units = trial.suggest_int("units", 1, 512, log=True)
    code = suggest_text(trial, "code", "a = [3, 0.5]", language="python")
    note = suggest_text(trial, "note", "one 1 two")
    if kind is None:
        x += trial.suggest_int("extra", 0, 8, step=2)
    names: dict[str, Any] = {}
    exec(code, names)
    return x**2 + lr + half + units / 512 + sum(names["a"]) + len(note)


def sources(study: optuna.Study) -> list[str | None]:
    return [told(trial, "source") for trial in study.trials]


def proposals(*values: float) -> list[str]:
    return [write_reply({"x": value, "n": 1}) for value in values]


def make_study(replies: Any, **arguments: Any) -> tuple[optuna.Study, ScriptedModel]:
    model = ScriptedModel(replies)
    sampler = LLMSampler(model=model, seed=0, **arguments)
    return optuna.create_study(sampler=sampler), model


def test_numbers_come_from_the_base_sampler_first_and_from_the_model_then() -> None:
    study, model = make_study(proposals(1.5, 0.5))
    study.optimize(parabola, n_trials=3)
    assert [t.params["x"] for t in study.trials[1:]] == [1.5, 0.5]
    assert sources(study) == ["base", "model", "model"]
    assert len(model.calls) == 2


def test_what_a_proposal_cost_and_meant_is_stored_on_its_trial() -> None:
    usage = Usage(prompt_tokens=100, cached_tokens=60, completion_tokens=30, reasoning_tokens=20)
    text = write_reply({"x": 1.0, "n": 2}, {"code": "b"}, "Because.")
    replies: list[str | Completion] = ["What?", Completion(text, "gpt-x-1", usage)]

    def objective(trial: optuna.Trial) -> float:
        return parabola(trial) + len(suggest_text(trial, "code", "a"))

    study, _ = make_study(replies)
    study.optimize(objective, n_trials=2)
    attributes = dict(study.trials[1].user_attrs)
    proposal = attributes.pop("llm:proposal")
    assert attributes == {"code": "b"}
    assert proposal.pop("seconds") >= 0
    assert len(proposal.pop("claim")) == 32
    assert proposal == {
        "source": "model",
        "proposer": "ScriptedModel",
        "rationale": "Because.",
        "texts": {"code": 1},
        "parent": 0,
        "model": "gpt-x-1",
        "prompt_tokens": 100,
        "cached_tokens": 60,
        "completion_tokens": 30,
        "reasoning_tokens": 20,
        "calls": 2,
    }


def test_a_reply_that_cannot_be_used_goes_back_with_the_reason() -> None:
    study, model = make_study([write_reply({"x": 11, "n": 1}), *proposals(1.0)])
    study.optimize(parabola, n_trials=2)
    assert sources(study)[1] == "model"
    again = model.calls[1][1].content
    assert again.startswith(model.calls[0][1].content.rstrip("\n"))
    assert 'parameter "x": 11 is not allowed; it must be float from -10.0 to 10.0.' in again
    assert '<numbers>{"x": 11, "n": 1}</numbers>' in again


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_after_the_last_reply_numbers_fall_back_and_say_why(
    retries: int, logs: pytest.LogCaptureFixture
) -> None:
    study, model = make_study(lambda _: "No.", max_reply_retries=retries)
    study.optimize(parabola, n_trials=2)
    assert sources(study) == ["base", "fallback"]
    assert study.trials[1].state == TrialState.COMPLETE
    assert "there is no <numbers> block" in told(study.trials[1], "error")
    assert told(study.trials[1], "calls") == len(model.calls) == retries + 1
    assert "there is no <numbers> block" in logs.text


def test_after_the_last_reply_a_text_fails_its_trial_and_the_study_can_go_on() -> None:
    def objective(trial: optuna.Trial) -> float:
        return float(len(suggest_text(trial, "code", "a")))

    study, _ = make_study(["No."] * 3 + [write_reply(texts={"code": "bb"})])
    study.optimize(objective, n_trials=3, catch=LLMError)
    states = [t.state for t in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert told(study.trials[1], "error")
    assert sources(study) == ["initial", None, "model"]
    study, _ = make_study(["No."] * 3)
    with pytest.raises(ReplyError, match=r'Trial 1.*3 calls.*no <text name="code"> block'):
        study.optimize(objective, n_trials=3)


def test_a_model_that_cannot_be_reached_falls_back_and_asks_again_next_time() -> None:
    study, _ = make_study([ModelError("the line is dead"), *proposals(1.0)])
    study.optimize(parabola, n_trials=3)
    assert sources(study) == ["base", "fallback", "model"]
    assert told(study.trials[1], "error") == "the line is dead"


def test_a_wrong_setup_is_never_answered_by_a_fallback() -> None:
    study, _ = make_study([ModelSetupError("wrong key")])
    with pytest.raises(ModelSetupError, match="wrong key"):
        study.optimize(parabola, n_trials=3)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]


def test_what_else_a_model_raises_is_the_trials_own_error() -> None:
    study, _ = make_study([KeyError("a bug")])
    with pytest.raises(KeyError, match="a bug"):
        study.optimize(parabola, n_trials=2)


def test_a_repeat_of_any_trial_is_refused() -> None:
    def objective(trial: optuna.Trial) -> float:
        if parabola(trial) > 3:
            raise RuntimeError
        return 0.0

    # A complete trial, and one that failed.
    replies = proposals(1.0, 1.0, 5.0, 5.0, 0.5)
    study, model = make_study(replies, max_reply_retries=5)
    study.optimize(objective, n_trials=4, catch=RuntimeError)
    assert [t.params["x"] for t in study.trials[1:]] == [1.0, 5.0, 0.5]
    assert "trial 1 has these values already" in model.calls[2][1].content
    assert "trial 2 has these values already" in model.calls[4][1].content


def test_a_text_that_differs_in_blanks_only_is_a_repeat() -> None:
    texts = ["a\nb", "a \n\nb\n", "a\n  b"]
    study, model = make_study([write_reply(texts={"code": text}) for text in texts])
    study.optimize(lambda t: len(suggest_text(t, "code", "start")), n_trials=3)
    assert [get_texts(t)["code"] for t in study.trials[1:]] == ["a\nb", "a\n  b"]
    assert len(model.calls) == 3


def test_a_trial_that_was_started_while_the_model_thought_is_not_repeated() -> None:
    def answer(messages: Sequence[Message]) -> str:
        if len(model.calls) == 1:
            study.add_trial(
                optuna.create_trial(
                    params={"x": 1.0, "n": 1},
                    distributions=study.trials[0].distributions,
                    value=2.0,
                )
            )
            return proposals(1.0)[0]
        return proposals(2.0)[0]

    study, model = make_study(answer)
    study.optimize(parabola, n_trials=2)
    assert study.trials[1].params["x"] == 2.0


def test_of_two_workers_with_one_idea_one_is_asked_again() -> None:
    """Two samplers, as two processes have them, that are given the same values at once."""
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel([])))
    study.optimize(parabola, n_trials=1)
    both_thought = threading.Barrier(2)
    others = itertools.count(1)

    def think(calls: list[object]) -> str:
        if len(calls) == 1:
            both_thought.wait(10)
            return proposals(1.0)[0]
        return proposals(1.0 + next(others) / 10)[0]

    def work() -> None:
        model = ScriptedModel(lambda _: think(model.calls))
        own = copy.copy(study)
        own.sampler = LLMSampler(model=model)
        own.optimize(parabola, n_trials=1)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    values = [t.params["x"] for t in study.trials[1:]]
    assert len(values) == len(set(values)) == 2
    assert sources(study)[1:] == ["model"] * 2


def test_a_space_in_which_all_is_tried_costs_no_calls() -> None:
    def objective(trial: optuna.Trial) -> float:
        return float(trial.suggest_categorical("bit", [0, 1]))

    study, model = make_study(lambda m: write_reply({"bit": len(model.calls) % 2}))
    study.optimize(objective, n_trials=12)
    tried = {t.params["bit"] for t in study.trials}
    assert tried == {0, 1}
    assert len(model.calls) < 8
    assert sources(study)[-1] == "base"


def test_seeded_runs_repeat_exactly() -> None:
    def run() -> list[tuple[dict[str, Any], dict[str, str]]]:
        study = optuna.create_study(sampler=LLMSampler(model="offline", seed=5))
        study.optimize(mixed, n_trials=15)
        return [(t.params, get_texts(t)) for t in study.trials]

    assert run() == run()


RUN = """
import sys
import optuna
from optuna_llm import LLMSampler
sys.path.insert(0, {folder!r})
from test_sampler import mixed
# A seed by which nothing falls to the base sampler after the cut: that would begin anew.
sampler = LLMSampler("Be small.", model="offline", seed=3)
study = optuna.create_study(
    storage={storage!r}, study_name="s", sampler=sampler, load_if_exists=True
)
study.optimize(mixed, n_trials={n})
"""


@pytest.mark.slow
def test_a_run_cut_in_two_by_a_new_process_goes_on_as_the_whole_one(tmp_path: Path) -> None:
    def run(name: str, n: int) -> optuna.Study:
        storage = f"sqlite:///{tmp_path}/{name}.db"
        script = RUN.format(folder=str(Path(__file__).parent), storage=storage, n=n)
        subprocess.run([sys.executable, "-c", script], check=True)
        return optuna.load_study(storage=storage, study_name="s")

    whole = run("whole", 12)
    run("cut", 5)
    cut = run("cut", 7)
    assert sources(cut) == sources(whole) == ["initial"] + ["model"] * 11
    assert [t.params for t in cut.trials] == [t.params for t in whole.trials]
    assert [get_texts(t) for t in cut.trials] == [get_texts(t) for t in whole.trials]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_study_pickles_and_deep_copies(copied: Callable[[Any], Any]) -> None:
    study = optuna.create_study(sampler=LLMSampler(model="offline", seed=0))
    study.optimize(mixed, n_trials=3)
    again = copied(study)
    again.optimize(mixed, n_trials=3)
    assert sources(again) == ["initial"] + ["model"] * 5
    assert len(study.trials) == 3


def test_many_threads_share_one_sampler() -> None:
    study = optuna.create_study(sampler=LLMSampler(model="offline", seed=0))
    study.optimize(mixed, n_trials=40, n_jobs=4)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 40
    assert set(sources(study)) <= {"initial", "model", "base"}
    values = [(str(t.params), str(get_texts(t))) for t in study.trials]
    assert len(set(values)) == 40


def test_several_objectives_with_names_are_told_and_each_front_trial_is_a_parent() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        text = suggest_text(trial, "code", "aaaa")
        return len(text), abs(len(text) - 9)

    texts = iter(["b" * n for n in (6, 8, 5, 7, 9, 3)])
    model = ScriptedModel(lambda _: write_reply(texts={"code": next(texts)}))
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=LLMSampler(model=model, seed=0)
    )
    study.set_metric_names(["length", "distance"])
    study.optimize(objective, n_trials=7)
    assert len(study.best_trials) == 7
    assert "- length: minimize\n- distance: minimize\n" in model.calls[-1][0].content
    assert "length 4, distance 5" in model.calls[-1][1].content
    assert len({told(t, "parent") for t in study.trials[1:]}) > 2


def test_constraints_make_a_trial_infeasible() -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -10, 10)
        if hasattr(trial, "set_constraint"):
            trial.set_constraint("0", -x)
        else:  # Before Optuna 5 samplers alone could write it.
            trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [-x])
        return x**2 + trial.suggest_int("n", 0, 9)

    study, model = make_study(proposals(-0.5, 2.0, 1.0))
    study.optimize(objective, n_trials=4)
    prompt = model.calls[2][1].content
    assert "## Trial 1: value 1.25, infeasible\n" in prompt
    assert 'constraints: {"0": 0.5}' in prompt
    assert "to beat trial 2." in prompt


@pytest.mark.filterwarnings("ignore:.*constraints_func")
def test_constraints_of_the_base_sampler_are_known_too() -> None:
    base = optuna.samplers.TPESampler(constraints_func=lambda trial: (trial.params["x"] - 1,))
    study, model = make_study(proposals(2.0, 0.5, 0.25), base_sampler=base)
    study.optimize(parabola, n_trials=4)
    assert "## Trial 1: value 5, infeasible\n" in model.calls[2][1].content
    assert "A trial with any constraint above 0 is infeasible" in model.calls[2][0].content


def test_pruned_and_failed_trials_are_told_as_such() -> None:
    def objective(trial: optuna.Trial) -> float:
        value = parabola(trial)
        if trial.number == 1:
            trial.report(value, 3)
            raise optuna.TrialPruned
        if trial.number == 2:
            report_feedback(trial, "x is not to be 2")
            raise RuntimeError
        return value

    study, model = make_study(proposals(1.0, 2.0, 3.0))
    study.optimize(objective, n_trials=4, catch=RuntimeError)
    prompt = model.calls[2][1].content
    assert "## Trial 1: stopped early (pruned) at step 3, value 2 by then\n" in prompt
    assert "## Trial 2: failed\n" in prompt
    assert "feedback: x is not to be 2\n" in prompt


def test_under_hyperband_the_model_sees_all_trials() -> None:
    def objective(trial: optuna.Trial) -> float:
        value = parabola(trial) + len(suggest_text(trial, "code", "a"))
        for step in range(9):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    values = iter(range(1, 20))
    model = ScriptedModel(
        lambda _: write_reply({"x": (n := next(values)) / 4, "n": 1}, {"code": "a" * n})
    )
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    study = optuna.create_study(sampler=LLMSampler(model=model), pruner=pruner)
    study.optimize(objective, n_trials=9)
    assert sources(study) == ["initial"] + ["model"] * 8
    told = model.calls[-1][1].content
    assert all(re.search(rf"^(## Trial|- trial) {n}\b", told, re.MULTILINE) for n in range(8))


def test_what_a_partial_fixed_sampler_fixes_is_not_asked_for() -> None:
    study, model = make_study([write_reply({"n": 3})])
    study.optimize(parabola, n_trials=1)
    study.sampler = optuna.samplers.PartialFixedSampler({"x": 0.5}, study.sampler)
    study.optimize(parabola, n_trials=1)
    assert study.trials[1].params == {"x": 0.5, "n": 3}
    assert '- "x"' not in model.calls[0][0].content


def test_ask_and_tell() -> None:
    study, _ = make_study(proposals(1.5))
    space = {
        "x": optuna.distributions.FloatDistribution(-10, 10),
        "n": optuna.distributions.IntDistribution(0, 9),
    }
    study.tell(study.ask(space), 1.0)
    trial = study.ask(space)
    assert trial.params == {"x": 1.5, "n": 1}


def test_all_parameters_of_conditional_branches_are_proposed_in_one_call() -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("branch", ["left", "right"]) == "left":
            return trial.suggest_float("l", 0, 1)
        return trial.suggest_float("r", 0, 1)

    study, model = make_study(
        [
            write_reply({"branch": "right", "l": 0.1, "r": 0.2}),
            write_reply({"branch": "left", "l": 0.3}),
        ]
    )
    study.enqueue_trial({"branch": "left", "l": 0.9})
    study.enqueue_trial({"branch": "right", "r": 0.9})
    study.optimize(objective, n_trials=4)
    assert [t.params for t in study.trials[2:]] == [
        {"branch": "right", "r": 0.2},
        {"branch": "left", "l": 0.3},
    ]
    assert 'Some trials do without "l", "r"' in model.calls[0][0].content


def test_a_range_that_moves_is_told_as_it_was_last_and_kept_to() -> None:
    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", trial.number, trial.number + 10)

    study, model = make_study([write_reply({"x": 0.5}), write_reply({"x": 10.5})])
    study.optimize(objective, n_trials=3)
    # Outside of the range by then: Optuna asks the base sampler for it.
    assert 1 <= study.trials[1].params["x"] <= 11
    assert study.trials[2].params["x"] == 10.5
    assert "float from 1.0 to 11.0" in model.calls[1][0].content


def test_the_task_is_kept_with_the_study() -> None:
    study, _ = make_study(proposals(1.0), task="Go down.")
    study.optimize(parabola, n_trials=2)
    model = ScriptedModel(proposals(2.0))
    study.sampler = LLMSampler(model=model)
    study.optimize(parabola, n_trials=1)
    assert "# Task\nGo down.\n" in model.calls[0][0].content


@pytest.mark.parametrize("tokens", [1_500, 2_500, 4_000])
def test_the_messages_keep_to_their_budget(tokens: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        suggest_text(trial, "code", "x = 1\n" * 20)
        report_feedback(trial, "word " * 2_000)
        return parabola(trial)

    sizes: list[int] = []

    def answer(messages: Sequence[Message]) -> str:
        sizes.append(sum(len(m.content) for m in messages))
        if len(sizes) % 3 == 0:
            return "No. " * 5_000
        n = len(sizes)
        return write_reply({"x": n / 50, "n": 1}, {"code": "y = 2\n" * (n + 1)}, "r" * 3_000)

    study, _ = make_study(answer, max_prompt_tokens=tokens)
    study.optimize(objective, n_trials=15)
    assert max(sizes) <= 4 * tokens
    assert max(sizes) > 2 * tokens


def test_a_budget_that_the_parameters_alone_pass_is_an_error_with_numbers() -> None:
    def objective(trial: optuna.Trial) -> float:
        return sum(trial.suggest_float(f"parameter {i}", 0, 1) for i in range(100))

    study, _ = make_study([], max_prompt_tokens=1_000)
    # It ends the study, since no later prompt would fit either.
    with pytest.raises(ModelSetupError, match=r"max_prompt_tokens=1000 is too small"):
        study.optimize(objective, n_trials=2)


def test_the_text_to_start_from_is_whole_and_the_budget_grows_with_it() -> None:
    start = "".join(f"line {i} = {i % 7}\n" for i in range(6_000))
    study, model = make_study([write_reply(texts={"code": start + "a"})] * 2)
    study.optimize(lambda t: len(suggest_text(t, "code", start)), n_trials=2)
    assert start.rstrip("\n") in model.calls[0][1].content
    study, _ = make_study([], max_prompt_tokens=16_000)
    with pytest.raises(ModelSetupError, match="with the text to start from"):
        study.optimize(lambda t: len(suggest_text(t, "code", start)), n_trials=2)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"model": 5}, TypeError, "a function messages -> str or a name: 5"),
        ({"model": OfflineModel}, TypeError, "a function messages -> str or a name"),
        ({}, ValueError, 'OPENAI_API_KEY.*OPENAI_BASE_URL.*model="offline"'),
        ({"model": "gpt-x"}, ValueError, "'gpt-x'.*OPENAI_API_KEY.*OPENAI_BASE_URL.*offline"),
        ({"model": "offline", "task": 5}, TypeError, "task must be a string: 5"),
        ({"model": "offline", "task": "字" * 20_000}, ValueError, "20,000 characters"),
        ({"model": "offline", "base_sampler": "tpe"}, TypeError, "Optuna sampler: 'tpe'"),
        ({"model": "offline", "max_prompt_tokens": 10}, ValueError, "500 or more: 10"),
        ({"model": "offline", "max_reply_retries": -1}, ValueError, "0 or more: -1"),
    ],
)
def test_a_wrong_argument_is_named_at_once(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        LLMSampler(**arguments)


def test_the_environment_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_LLM_MODEL", "offline")
    study = optuna.create_study(sampler=LLMSampler(seed=0))
    study.optimize(parabola, n_trials=2)
    assert told(study.trials[1], "model") == "offline"


def test_a_plain_function_is_a_model() -> None:
    def answer(messages: Sequence[Message]) -> str:
        assert [vars(m)["role"] for m in messages] == ["system", "user"]
        return proposals(1.0)[0]

    study = optuna.create_study(sampler=LLMSampler(model=answer))
    study.optimize(parabola, n_trials=2)
    assert study.trials[1].params["x"] == 1.0
    study.sampler = LLMSampler(model=lambda _: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="must return a string, not None"):
        study.optimize(parabola, n_trials=1)


def test_the_base_sampler_falls_in_with_all_of_its_hooks() -> None:
    grid = optuna.samplers.GridSampler({"x": [1, 2, 3], "n": [4]})
    study, _ = make_study(lambda _: "No.", base_sampler=grid)
    study.optimize(parabola)
    assert sorted(t.params["x"] for t in study.trials) == [1, 2, 3]
    assert sources(study) == ["base", "fallback", "fallback"]


def test_a_preview_leaves_no_trace_in_later_prompts() -> None:
    def run(*, previews: bool) -> list[str]:
        model = ScriptedModel(lambda _: proposals(len(model.calls) / 4)[0])
        sampler = LLMSampler(model=model, seed=0, max_prompt_tokens=700)
        study = optuna.create_study(sampler=sampler)
        for _ in range(12):
            study.optimize(parabola, n_trials=1)
            if previews:
                sampler.preview(study)
        return [user.content for _, user in model.calls]

    assert run(previews=True) == run(previews=False)


def test_a_preview_knows_a_text_that_was_enqueued() -> None:
    sampler = LLMSampler(model=ScriptedModel([]))
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({}, user_attrs={"code": "enqueued"})
    study.optimize(lambda t: len(suggest_text(t, "code", "a")), n_trials=1)
    assert "enqueued" in str(sampler.preview(study))


def test_texts_and_numbers_may_be_enqueued_together() -> None:
    def objective(trial: optuna.Trial) -> float:
        return parabola(trial) + len(suggest_text(trial, "code", "a"))

    study, model = make_study([])
    study.enqueue_trial({"x": 1.0, "n": 2, "code": "enqueued"})
    study.optimize(objective, n_trials=1)
    assert get_texts(study.trials[0]) == {"code": "enqueued"}
    study.enqueue_trial({"x": 2.0, "n": 2, "code": "again"})
    study.optimize(objective, n_trials=1)
    assert get_texts(study.trials[1]) == {"code": "again"}
    assert study.trials[1].params == {"x": 2.0, "n": 2}
    assert sources(study) == ["user", "user"]
    assert model.calls == []


def test_a_text_of_a_trial_that_was_added_by_hand_is_shown() -> None:
    study, model = make_study([write_reply(texts={"code": "bb"})])
    study.add_trial(optuna.create_trial(value=9.0, user_attrs={"code": "by hand"}))
    study.optimize(lambda t: len(suggest_text(t, "code", "a")), n_trials=1)
    assert "by hand" in model.calls[0][1].content


def test_a_text_that_a_study_gets_later_is_tried_as_it_is_once() -> None:
    def with_text(trial: optuna.Trial) -> float:
        return parabola(trial) + len(suggest_text(trial, "code", "initial"))

    later = write_reply({"x": 3.0, "n": 1}, {"code": "made"})
    study, model = make_study([*proposals(1.0, 2.0), later])
    study.optimize(parabola, n_trials=2)
    study.optimize(with_text, n_trials=2)
    texts = [get_texts(trial) for trial in study.trials]
    assert texts == [{}, {}, {"code": "initial"}, {"code": "made"}]
    # The numbers of that trial are still the model's.
    assert study.trials[2].params["x"] == 2.0
    assert 'Start from "code" of trial 2' in model.calls[2][1].content


def test_only_texts_that_the_objective_asks_for_are_the_trials() -> None:
    def objective(trial: optuna.Trial) -> float:
        branch = trial.suggest_categorical("branch", ["a", "b"])
        return float(len(suggest_text(trial, branch, f"initial {branch}")))

    def answer(messages: Sequence[Message]) -> str:
        n = len(model.calls)
        texts = {b: f"{b} {n}" for b in "ab" if f'<text name="{b}">' in messages[0].content}
        return write_reply({"branch": "ab"[n % 2]}, texts)

    model = ScriptedModel(answer)
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=0))
    study.optimize(objective, n_trials=8)
    for trial in study.trials:
        assert get_texts(trial).keys() == {trial.params["branch"]}


def test_after_trial_of_the_base_sampler_is_called_even_if_the_storage_fails() -> None:
    ended = []

    class Base(optuna.samplers.RandomSampler):
        def after_trial(self, *arguments: Any) -> None:
            ended.append(arguments)

    class Broken(optuna.storages.InMemoryStorage):
        def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
            raise RuntimeError("The disk is full.")

    sampler = LLMSampler(model=ScriptedModel([]), base_sampler=Base())
    study = optuna.create_study(sampler=sampler, storage=Broken())
    study.enqueue_trial({"x": 0.5})
    with pytest.raises(RuntimeError, match="disk"):
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=1)
    assert len(ended) == 1


def test_a_trial_that_is_never_told_keeps_no_storage_alive() -> None:
    sampler = LLMSampler(model="offline", prefetch=1)
    study = optuna.create_study(sampler=sampler)
    study.optimize(parabola, n_trials=2)
    study.ask().suggest_float("x", -10, 10)
    storage = weakref.ref(study._storage)
    del study
    gc.collect()
    assert storage() is None


def test_a_study_resumed_with_another_task_says_which_holds(
    logs: pytest.LogCaptureFixture,
) -> None:
    study = optuna.create_study(sampler=LLMSampler("Go up.", model="offline"))
    study.optimize(parabola, n_trials=1)
    study.sampler = LLMSampler("Go down.", model="offline")
    study.optimize(parabola, n_trials=2)
    said = [r.getMessage() for r in logs.records if "Go up." in r.getMessage()]
    assert len(said) == 1
    assert study.user_attrs["llm:task"] == "Go down."
