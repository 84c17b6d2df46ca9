"""Whole prompts, pinned to the letter.

After a change that is meant: ``UPDATE_GOLDEN=1 pytest tests/prompt/test_golden.py``, and read the
difference as a model would.
"""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import re
import tempfile
from typing import Any

from images import make_png
import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import TrialState
from provenance import only_models
from provenance import told
import pytest
from test_prompt import make_study as make_mixed_study
from test_prompt import propose
from test_prompt import REPLIES

from optuna_llm import describe_study
from optuna_llm import LLMSampler
from optuna_llm import report_case
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm._reply.edits import Edit
from optuna_llm._reply.edits import write_edits
from optuna_llm._tunables import fill
from optuna_llm._tunables import render
from optuna_llm.evaluate import evaluate_cases
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


GOLDEN = Path(__file__).parent / "golden"


def make_study(model: ScriptedModel, task: str, **arguments: Any) -> optuna.Study:
    return optuna.create_study(
        sampler=LLMSampler(task, model=model, seed=1, proposers=only_models), **arguments
    )


def ask_mixed() -> ScriptedModel:
    model = ScriptedModel([*REPLIES, propose({"rounding": "none", "scale": 1.1}, "x", "")])
    make_mixed_study(model, n_trials=7)
    return model


def ask_text() -> ScriptedModel:
    """Prose, with the same feedback twice and a text that came up before."""
    lines = ["A man, a plan.", "Never odd or even?", "A man, a plan, a canal.", "Was it a car?"]
    notes = "It does not read the same backwards: the letters differ in the first half of it."

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "sentence", "Hello world.", description="One sentence.")
        report_feedback(trial, notes if trial.number else "Too plain.")
        return len(set(text))

    model = ScriptedModel(
        [write_reply(texts={"sentence": line}, rationale=f"Try {line[:5]}.") for line in lines]
    )
    study = make_study(model, "Find a long palindrome.", direction="maximize")
    study.optimize(objective, n_trials=5)
    return model


def ask_cases() -> ScriptedModel:
    """Questions with names, of which one trial is pruned and none answers all."""
    questions = {f"sum of {i} and {i}": i for i in range(40)}

    class AfterSix(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return trial.number == 4 and len(trial.intermediate_values) == 20

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "prompt", "Add.", description="A system prompt.")

        def answer(i: int) -> tuple[float, str]:
            knows = i % 9 < len(text) // 10 and i != 13 and (i != 5 or len(text) < 40)
            return float(knows), "" if knows else f"answered {i + 1}, not {2 * i}"

        return evaluate_cases(trial, questions, answer)

    prompts = [
        "Add the two numbers.",
        "Add the two numbers, digit by digit.",
        "Add the two numbers, digit by digit, and mind what you carry over.",
        "Guess the sum.",
        "Add the two numbers, digit by digit, and check twice what you carry over to the next.",
    ]
    model = ScriptedModel(
        [write_reply(texts={"prompt": p}, rationale=f"Say {p.split()[-1]}") for p in prompts]
    )
    study = make_study(model, "Teach sums.", direction="maximize", pruner=AfterSix())
    study.optimize(objective, n_trials=6)
    return model


def ask_numbers() -> ScriptedModel:
    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        depth = trial.suggest_int("depth", 2, 8, step=2)
        return lr * depth + (trial.suggest_categorical("act", ["relu", "tanh"]) == "tanh")

    values = [(0.01, 4, "relu"), (0.003, 4, "relu"), (0.001, 2, "tanh"), (0.002, 2, "relu")]
    replies = [
        write_reply({"lr": lr, "depth": depth, "act": act}, rationale=f"Slower: {lr}.")
        for lr, depth, act in values
    ]
    model = ScriptedModel(replies)
    study = make_study(model, "Tune a network.")
    study.enqueue_trial({"lr": 0.05, "depth": 8, "act": "relu"})
    study.optimize(objective, n_trials=5)
    return model


PROGRAM = "".join(f"def step_{i}(x):\n    return x * {i} + 0.5\n\n\n" for i in range(40))


def answer_with(edit: Edit, of: int, rationale: str = "") -> str:
    block = f'<edit name="code" of="{of}">\n{write_edits([edit])}\n</edit>'
    return f'<rationale>{rationale}</rationale>\n<numbers>{{"k": 3}}</numbers>\n{block}'


def ask_with_edits() -> ScriptedModel:
    """A long program that is edited, and at last an edit whose lines are not there."""

    def objective(trial: optuna.Trial) -> float:
        k = trial.suggest_int("k", 1, 9)
        text = suggest_text(trial, "code", PROGRAM, language="python", description="Steps.")
        report_feedback(trial, f"{text.count('0.5')} halves are left.")
        return text.count("0.5") + k / 10

    model = ScriptedModel(
        [
            answer_with(Edit("    return x * 7 + 0.5", "    return x * 7"), 0, "One less."),
            answer_with(Edit("    return x * 8 + 0.5", "    return x * 8"), 1, "Another one."),
            answer_with(Edit("    return x * 9 - 0.5", "    return x * 9"), 2),
            answer_with(Edit("    return x * 9 + 0.5", "    return x * 9"), 2),
        ]
    )
    study = make_study(model, "Remove the halves.")
    study.enqueue_trial({"k": 5})
    study.optimize(objective, n_trials=4)
    assert [told(t, "parent") for t in study.trials] == [
        None,
        0,
        1,
        2,
    ]
    assert study.trials[3].value == 37.3
    return model


def ask_for_several_objectives() -> ScriptedModel:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0, 10)
        y = trial.suggest_float("y", 0, 10)
        # As a sampler's constraints_func would write it, in every version of Optuna.
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [4 - x - y])
        return x * x + y, y * y + x

    points = [(1, 1), (3, 2), (2, 3), (4, 1), (5, 5)]
    model = ScriptedModel([write_reply({"x": x, "y": y}, rationale="A point.") for x, y in points])
    study = make_study(model, "Trade time for memory.", directions=["minimize", "minimize"])
    study.set_metric_names(["time", "memory"])
    study.enqueue_trial({"x": 6, "y": 6})
    study.optimize(objective, n_trials=6)
    return model


def ask_on_a_plateau() -> ScriptedModel:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_int("x", 0, 100)
        return abs(x - 40) if trial.number < 3 else 50 + x

    ideas = ["Go up.", "Half way.", *["Near the best."] * 4, "Far off.", "The other end.", "Odd."]
    values = [30, 38, 37, 39, 36, 35, 90, 5, 51, 40, 34, 33]
    replies = [
        write_reply({"x": x}, rationale=ideas[min(i, len(ideas) - 1)])
        for i, x in enumerate(values)
    ]
    model = ScriptedModel(replies)
    study = make_study(model, "Find it.")
    study.enqueue_trial({"x": 20})
    study.optimize(objective, n_trials=len(values) + 1)
    return model


def ask_beside_four_workers() -> ScriptedModel:
    """Three others run; one of them has no values yet."""

    def objective(trial: optuna.Trial) -> float:
        suggest_text(trial, "code", "a = 0\nb = 0", language="python")
        return trial.suggest_float("x", 0, 1)

    codes = ["a = 1\nb = 0", "a = 1\nb = 2", "a = 3\nb = 0", "a = 4\nb = 4"]
    model = ScriptedModel(
        [write_reply({"x": i / 8}, {"code": code}) for i, code in enumerate(codes)]
    )
    study = make_study(model, "Small.")
    study.enqueue_trial({"x": 0.5}, user_attrs={"code": "a = 0\nb = 0"})
    study.optimize(objective, n_trials=2)
    running = [study.ask() for _ in range(3)]
    for trial in running[:2]:
        objective(trial)
    study.optimize(objective, n_trials=1)
    return model


def ask_with_images() -> ScriptedModel:
    """Pictures of the start and of the best, one of which is gone."""

    class SeeingModel(ScriptedModel):
        takes_images = True

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "svg", "<circle r='1'/>", language="svg", description="A sun.")
        images = [make_png(i) for i in range(2 if trial.number == 1 else 1)]
        report_feedback(trial, "See the picture.", images=images)
        if trial.number == 1:
            Path(folder, trial.user_attrs["llm:images"][1]).unlink()
        return abs(len(text) - 20)

    circles = ["<circle r='12345'/>", "<circle r='123456789'/>", "<circle r='2'/>", "<circle/>"]
    model = SeeingModel(
        [write_reply(texts={"svg": c}, rationale=f"Draw {c[7:-2]}.") for c in circles]
    )
    with tempfile.TemporaryDirectory() as folder:
        store = FileSystemArtifactStore(folder)
        sampler = LLMSampler("Draw a sun.", model=model, seed=2, artifact_store=store)
        study = optuna.create_study(sampler=sampler)
        study.optimize(objective, n_trials=5)
    return model


def ask_with_two_parents() -> ScriptedModel:
    """A prompt scored on questions; the best is shown beside one that is better in some."""
    rules = {
        "Show each step.": (1, 1, 1, 0, 0, 0, 0.5, 0),
        "Name the unit.": (0, 0, 0, 1, 1, 0, 0, 0.25),
        "Round at the end.": (0, 0, 0, 0, 0, 1, 0, 0),
    }

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "prompt", "Answer the question.", description="Instructions.")
        scores = [sum(rules[r][i] for r in rules if r in text) for i in range(8)]
        for case, score in enumerate(scores):
            report_case(trial, case, score, "" if score else f"No answer to question {case}.")
        return sum(scores) / len(scores)

    model = ScriptedModel(
        [
            write_reply(texts={"prompt": f"Answer the question. {rule}"}, rationale=rule)
            for rule in [*rules, "Be brief."]
        ]
    )
    sampler = LLMSampler("Answer questions of physics.", model=model, seed=1)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(objective, n_trials=5)
    assert (told(study.trials[4], "parent"), told(study.trials[4], "second_parent")) == (1, 2)
    return model


def ask_in_a_conditional_noisy_space() -> ScriptedModel:
    """Choices, what goes with them, leaders within the noise, one of them measured again."""
    noise = iter([0.0, 0.01, 0.02, -0.03, 0.01, 0.04, -0.02, 0.0, 0.03, -0.01, 0.02])

    def objective(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("kind", ["tree", "net", "knn"]) == "net":
            return 0.4 + trial.suggest_float("rate", 0, 1) / 10 + next(noise)
        return 0.5 + trial.suggest_int("depth", 1, 9) / 100 + next(noise)

    points: list[dict[str, Any]] = [
        {"kind": "net", "rate": 0.5},
        {"kind": "net", "rate": 0.1},
        {"kind": "tree", "depth": 2},
        {"kind": "net", "rate": 0.2},
        {"kind": "net", "rate": 0.05},
        {"kind": "tree", "depth": 1},
        {"kind": "net", "rate": 0.15},
    ]
    replies = [write_reply(point, rationale="Less of it.") for point in points]
    again = '<rationale>Tell 3 and 6 apart.</rationale>\n<repeat trial="3"/>'
    last = write_reply({"kind": "net", "rate": 0.02})
    model = ScriptedModel([*replies, again, last])
    study = make_study(model, "Tune a classifier.")
    describe_study(study, noise=0.03, n_trials=20, target_value=0.35, best_possible=0)
    study.enqueue_trial({"kind": "tree", "depth": 5})
    study.enqueue_trial({"kind": "net", "rate": 0.9})
    study.optimize(objective, n_trials=11)
    return model


def ask_with_tunables() -> ScriptedModel:
    """A program whose constants were tuned; by values of our own, since TPE's vary by version.

    So do importances, which are told from eight trials on.
    """
    programs = [
        "m = <<m = 3 in 1..10>>\ng = <<gain = 0.5 in 0.1..10.0 log>>\nf = <<f = max in max, min>>",
        "m = 2",
    ]
    model = ScriptedModel([write_reply(texts={"code": text}, rationale="r") for text in programs])

    def objective(trial: optuna.Trial) -> float:
        start = "m = <<m = 9 in 1..10>>\ng = 2\nf = min"
        code = suggest_text(trial, "code", start, language="python", tunable=True)
        names: dict[str, Any] = {}
        exec(code, names)
        value = float(names["m"] * names.get("g", 1) + names.get("f", max)(0, 2))
        report_feedback(trial, f"m is {names['m']}.")
        return value

    def tune(**values: Any) -> None:
        last = next(t for t in reversed(study.trials) if told(t, "source") != "tune")
        marked = fill(last.user_attrs["llm:template:code"], values)
        params = {f"code.{name}@{last.number}": value for name, value in values.items()}
        add = {**told_of(last), "source": "tune", "proposer": "tune", "parent": last.number}
        trial = optuna.create_trial(
            state=TrialState.WAITING,
            params={**last.params, **params},
            distributions=last.distributions,
            user_attrs={
                "llm:proposal": add,
                "llm:template:code": marked,
                "code": render(marked),
            },
        )
        study.add_trial(trial)
        study.optimize(objective, n_trials=1)

    study = make_study(model, "Small.")
    study.optimize(objective, n_trials=1)
    tune(m=5)
    tune(m=2)
    study.optimize(objective, n_trials=1)
    for m, gain, f in (
        (4, 0.3, "max"),
        (1, 0.9, "min"),
        (7, 4.5, "min"),
        (1, 0.12, "min"),
        (2, 0.2, "max"),
    ):
        tune(m=m, gain=gain, f=f)
    study.optimize(objective, n_trials=1)
    return model


def told_of(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """What is stored of a trial's texts."""
    return {"texts": trial.user_attrs["llm:proposal"]["texts"]}


def ask_for_the_first_text() -> ScriptedModel:
    model = ScriptedModel([write_reply(texts={"query": "SELECT 1"})])
    study = make_study(model, "Find all late orders.", direction="maximize")
    describe_study(study, best_possible=1, n_trials=8)
    study.optimize(
        lambda trial: float(
            "late" in suggest_text(trial, "query", None, description="A query.", language="sql")
        ),
        n_trials=1,
    )
    return model


def ask_with_a_long_program() -> ScriptedModel:
    """A program of 6 kB, after its history was cut, with what it has taught."""
    program = "".join(f"def step_{i}(x):\n    return x * {i} + 0.5\n\n\n" for i in range(150))

    def answer(messages: Any) -> str:
        i = len(model.calls)
        edit = Edit(f"    return x * {i} + 0.5", f"    return x * {i}")
        block = f'<edit name="code" of="{i - 1}">\n{write_edits([edit])}\n</edit>'
        learned = f"<insights>\n- Halves can go, as in step {i}.\n</insights>"
        asked = learned if "<insights>" in messages[1].content else ""
        return f"<rationale>No half in step {i}.</rationale>\n{block}\n{asked}"

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", program, language="python", description="Steps.")
        if trial.number % 5 == 4:
            report_feedback(trial, "A step is slow: " + "x" * 900)
        return text.count("0.5")

    model = ScriptedModel(answer)
    study = make_study(model, "Remove the halves.")
    study.optimize(objective, n_trials=40)
    assert study.user_attrs["llm:insights"]
    return model


SCENES: dict[str, Callable[[], ScriptedModel]] = {
    "mixed": ask_mixed,
    "text": ask_text,
    "cases": ask_cases,
    "numbers": ask_numbers,
    "edits": ask_with_edits,
    "objectives": ask_for_several_objectives,
    "plateau": ask_on_a_plateau,
    "workers": ask_beside_four_workers,
    "images": ask_with_images,
    "parents": ask_with_two_parents,
    "conditional": ask_in_a_conditional_noisy_space,
    "first_text": ask_for_the_first_text,
    "tunables": ask_with_tunables,
    "long_program": ask_with_a_long_program,
}


@pytest.mark.parametrize("scene", SCENES)
def test_a_whole_prompt_reads_as_it_is_pinned(scene: str) -> None:
    system, user = SCENES[scene]().calls[-1]
    prompt = f"--- system\n{system.content}--- user\n{user.content}"
    prompt = re.sub(r'File ".*test_prompt', 'File "tests/test_prompt', prompt)
    prompt = re.sub(r", line \d+, in", ", line 1, in", prompt)
    path = GOLDEN / f"{scene}.md"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(prompt)
    assert prompt == path.read_text()
