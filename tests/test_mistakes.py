from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
from provenance import only_models
import pytest

import optuna_llm
from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.evaluate import Judge
from optuna_llm.optimize import run
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


@pytest.mark.parametrize(
    "task",
    ["offline", "gpt-5", "claude-opus-4", "llama3.1:8b", "qwen/qwen3", "o3", "gpt-4o-mini"],
)
@pytest.mark.parametrize("variable", ["", "offline"])
def test_a_task_that_reads_like_a_model_is_refused_with_the_way_out(
    task: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_LLM_MODEL", variable)
    with pytest.raises(ValueError, match=rf"first argument is the task.*model='{task}'\)"):
        LLMSampler(task)
    assert LLMSampler(task, model="offline")


@pytest.mark.parametrize("task", ["", "T", "Minimize", "x**2", "2048", "Win 2048.", "sqrt(x1)"])
def test_a_task_in_words_is_no_model(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_LLM_MODEL", "offline")
    assert LLMSampler(task)


@pytest.mark.parametrize(
    "call",
    [
        lambda **unknown: LLMSampler("Go down.", model="offline", **unknown),
        lambda **unknown: run("", "", len, "a", model="offline", **unknown),
        lambda **unknown: Judge("{text}", model="offline", **unknown),
    ],
    ids=["LLMSampler", "run", "Judge"],
)
@pytest.mark.parametrize(
    ("unknown", "says"),
    [
        (
            {"temperature": 1},
            r"no argument 'temperature'.*model=OpenAIModel\(\"…\", temperature=1",
        ),
        ({"modle": "gpt"}, r"no argument 'modle'\. Did you mean 'model'\?"),
    ],
)
def test_an_unknown_argument_is_told_where_it_belongs(
    call: Callable[..., Any], unknown: dict[str, Any], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        call(**unknown)


@pytest.mark.parametrize("task", ["", "Go down."])
def test_a_study_without_a_task_says_once_that_one_helps(
    task: str, logs: pytest.LogCaptureFixture
) -> None:
    def objective(trial: optuna.Trial) -> float:
        return len(suggest_text(trial, "code", "a 1")) + trial.suggest_float("x", 0, 1)

    study = optuna.create_study(sampler=LLMSampler(task, model="offline"))
    study.optimize(objective, n_trials=4)
    hints = [r for r in logs.records if "not told what this study is about" in r.getMessage()]
    assert len(hints) == (not task)


def test_a_study_continued_with_another_model_says_so_once(
    logs: pytest.LogCaptureFixture,
) -> None:
    class NamedModel(ScriptedModel):
        def __init__(self, name: str) -> None:
            number = iter(range(1, 100))
            super().__init__(
                lambda _: optuna_llm.Completion(
                    write_reply({"x": len(study.trials) / 100 + next(number) / 1000}), name
                )
            )
            self.name = name

    study = optuna.create_study()
    for name in ("a", "a", "b"):
        study.sampler = LLMSampler("Go down.", model=NamedModel(name), proposers=only_models)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    said = [r.getMessage() for r in logs.records if "proposed by" in r.getMessage()]
    assert said == ["Earlier trials were proposed by a; b is shown them and proposes from now on."]


def test_the_version_is_known() -> None:
    assert optuna_llm.__version__.count(".") == 2
