from __future__ import annotations

from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import optuna
from optuna.trial import TrialState
import pytest
from waiting import wait_for

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import ModelSetupError
from optuna_llm import suggest_text
from optuna_llm.optimize import run
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


def script(*texts: str) -> ScriptedModel:
    return ScriptedModel(
        [write_reply(texts={"x": text}, rationale=f"Try {text}.") for text in texts]
    )


def measure(x: str) -> tuple[float, str]:
    return len(x), f"{len(x)} letters"


def test_the_answer_unpacks_and_carries_the_study() -> None:
    model = script("bbb", "cc")
    result = run("Grow.", "A word.", measure, "a", model=model, max_steps=2, verbose=False)
    best_score, scores, best_x = result
    assert (best_score, scores, best_x) == (3.0, [1.0, 3.0, 2.0], "bbb")
    assert [t.user_attrs["feedback"] for t in result.study.trials] == [
        "1 letters",
        "3 letters",
        "2 letters",
    ]
    system, user = model.calls[0]
    assert "# Task\nGrow.\n" in system.content
    assert '- "x": A word.' in system.content
    assert "feedback: 1 letters" in user.content


def test_a_score_alone_is_enough_and_the_direction_may_be_down() -> None:
    result = run(
        "",
        "",
        len,
        "aaaa",
        model=script("bbb", "cc"),
        max_steps=2,
        direction="minimize",
        verbose=False,
    )
    assert tuple(result) == (2.0, [4.0, 3.0, 2.0], "cc")


def test_it_ends_at_the_stop_score() -> None:
    model = script("bbb", "cc")
    result = run("", "", len, "a", model=model, max_steps=9, stop_score=3, verbose=False)
    assert result.scores == [1.0, 3.0]


def test_an_exception_is_a_failed_trial_that_the_model_reads_of() -> None:
    def fail(x: str) -> float:
        if x == "bad":
            raise RuntimeError("no such word")
        return len(x)

    model = script("bad", "good")
    result = run("", "", fail, "a", model=model, max_steps=2, verbose=False)
    assert result.scores == [1.0, 4.0]
    assert result.study.trials[1].state == TrialState.FAIL
    prompt = model.calls[1][1].content
    assert "## Trial 1: failed" in prompt
    assert "RuntimeError: no such word" in prompt
    assert "in fail\n" in prompt
    assert "/optimize.py" not in prompt


def test_if_all_fail_there_is_no_best() -> None:
    def fail(x: str) -> float:
        raise RuntimeError

    result = run("", "", fail, "a", model=script("b"), max_steps=1, verbose=False)
    assert tuple(result) == (None, [], None)
    assert len(result.study.trials) == 2


def test_a_reply_that_cannot_be_used_costs_a_step_and_no_more() -> None:
    model = ScriptedModel(["?"] * 3 + [write_reply(texts={"x": "bb"})])
    result = run("", "", len, "a", model=model, max_steps=2, verbose=False)
    assert result.scores == [1.0, 2.0]


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_a_wrong_setup_ends_it_at_once(n_jobs: int) -> None:
    model = ScriptedModel(lambda _: ModelSetupError("wrong key"))
    with pytest.raises(ModelSetupError, match="wrong key"):
        run("", "", len, "a", model=model, max_steps=9, verbose=False, n_jobs=n_jobs)
    assert len(model.calls) <= n_jobs


@pytest.mark.parametrize("answer", [None, "good", (1.0, 5), (1.0, "a", "b")])
def test_a_function_that_returns_something_else_ends_it_with_the_reason(answer: Any) -> None:
    model = script("b", "c")
    with pytest.raises(TypeError, match="func must return a number, or a number and a string"):
        run("", "", lambda x: answer, "a", model=model, max_steps=2, verbose=False)
    assert model.calls == []


def test_it_goes_on_with_a_study_and_the_sampler_with_its(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    where: dict[str, Any] = {"storage": storage, "study_name": "words", "verbose": False}
    run("Grow.", "A word.", len, "a", model=script("bb"), max_steps=1, **where)
    result = run("Grow.", "A word.", len, "a", model=script("ccc"), max_steps=1, **where)
    assert result.scores == [1.0, 2.0, 3.0]
    model = ScriptedModel([write_reply(texts={"x": "dddd"})])
    study = optuna.load_study(study_name="words", storage=storage, sampler=LLMSampler(model=model))
    study.optimize(lambda trial: len(suggest_text(trial, "x", "a")), n_trials=1)
    assert study.best_trial.user_attrs["x"] == "dddd"
    assert "# Task\nGrow.\n" in model.calls[0][0].content


KILLED = """
import time
from optuna_llm.optimize import run
scored = []
def score(x):
    scored.append(x)
    if len(scored) == 3:
        time.sleep(600)
    return len(x)
where = {{"storage": {storage!r}, "study_name": "s"}}
run("Grow.", "", score, "a 1.5", model="offline", max_steps=99, **where)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(storage=storage)])
    try:
        wait_for(lambda: len(study.trials) == 3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = study.trials
    assert before[-1].state == TrialState.RUNNING
    where: dict[str, Any] = {"storage": storage, "study_name": "s", "verbose": False}
    result = run("", "", len, "a 1.5", model="offline", seed=0, max_steps=2, **where)
    assert len(result.scores) == len(before) - 1 + 2
    study = optuna.load_study(
        study_name="s", storage=storage, sampler=LLMSampler(model="offline", seed=0)
    )
    study.optimize(lambda trial: len(suggest_text(trial, "x", "a 1.5")), n_trials=1)
    assert get_texts(study.trials[-1])["x"] not in {get_texts(t).get("x") for t in before}


def test_several_jobs_share_the_study() -> None:
    result = run(
        "", "", len, "a 1.5", model="offline", seed=0, max_steps=20, n_jobs=4, verbose=False
    )
    assert len(result.study.trials) == 21


def test_the_console_shows_each_step_and_optuna_keeps_quiet(
    capfd: pytest.CaptureFixture[str],
) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    run("", "", measure, "a", model=script("bbb"), max_steps=1)
    captured = capfd.readouterr()
    assert "trial 1 (model)\nTry bbb.\nx:\nbbb\n3 letters\nvalue: 3\n" in captured.out
    assert "finished with value" not in captured.err
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_templates_make_the_messages() -> None:
    model = script("bb")
    run(
        "Grow.",
        "",
        len,
        "a",
        model=model,
        max_steps=1,
        verbose=False,
        system_template="You write words. {{}}\n{task}{reply}",
        user_template="So far:\n{history}{request}Go!",
    )
    system, user = model.calls[0]
    assert system.content.startswith("You write words. {}\n# Task\nGrow.\n\n# Reply\n")
    assert user.content.startswith("So far:\n# Trials so far")
    assert user.content.endswith("in full above.\nGo!")


def test_a_template_without_the_history_is_given_the_text_to_start_from() -> None:
    model = script("bb")
    run("", "", len, "a", model=model, max_steps=1, verbose=False, user_template="{request}")
    prompt = model.calls[0][1].content
    assert 'Start from "x" of trial 0; it is:\n```\na\n```\n' in prompt


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (
            {"system_template": "{reply}{task_description}"},
            ValueError,
            r"system template has no placeholder \{task_description\}: there are \{role\},",
        ),
        ({"user_template": "{request}{x}"}, ValueError, r"no placeholder \{x\}.*\{history\}"),
        ({"user_template": "{history}"}, ValueError, r"user template must hold \{request\}"),
        ({"system_template": "{task}"}, ValueError, r"system template must hold \{reply\}"),
        ({"user_template": "{request"}, ValueError, r"not well formed.*write \{\{ for a brace"),
        ({"user_template": "{request}{}"}, ValueError, r"no placeholder \{\}"),
        ({"max_steps": -1}, ValueError, "max_steps must be 0 or more: -1"),
        ({"x0": 5}, TypeError, "x0 must be a string: 5"),
        ({"func": 5}, TypeError, "func must be a function of a text: 5"),
    ],
)
def test_a_wrong_argument_is_named_at_once(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    valid = {"task": "", "question": "", "func": len, "x0": "a", "model": script()}
    with pytest.raises(error, match=says):
        run(**valid | arguments)


@pytest.mark.slow
def test_processes_that_start_together_on_a_new_database_share_it(tmp_path: Path) -> None:
    code = f"""
import sys, time
from optuna_llm.optimize import run
time.sleep(max(0, float(sys.argv[1]) - time.time()))
run("T", "Q", len, "a", max_steps=1, model="offline", verbose=False,
    storage="sqlite:///{tmp_path}/study.db", study_name="s")
"""
    begin = str(time.time() + 5)
    processes = [subprocess.Popen([sys.executable, "-c", code, begin]) for _ in range(6)]
    assert [process.wait(120) for process in processes] == [0] * 6
