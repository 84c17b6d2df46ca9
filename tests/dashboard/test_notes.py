"""Annotating a study: the words of notes, their bounds, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import re
import sys
from typing import Any

import optuna
from optuna.trial import create_trial
import optuna_dashboard
from optuna_dashboard import get_note
from optuna_dashboard import save_note
from provenance import told
import pytest
from storage_worker import open_storage
from test_markdown import parse
from test_storages import new_database
from test_storages import POSTGRESQL
from wsgi import fetch

from optuna_llm import Completion
from optuna_llm import explain_failures
from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import ModelError
from optuna_llm import Prices
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm import Usage
from optuna_llm.dashboard import annotate
from optuna_llm.dashboard import DashboardNotes
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


START = "def f(x):\n    a = 1\n    return a\n"


class Handle:
    """A finished trial as the dashboard's functions take it."""

    def __init__(self, study: optuna.Study, number: int) -> None:
        self.study = study
        self.storage = study._storage
        self._trial_id = study.get_trials(deepcopy=False)[number]._trial_id


def trial_note(study: optuna.Study, number: int) -> str:
    return get_note(Handle(study, number))  # type: ignore[arg-type]


def edit_note(study: optuna.Study, number: int, body: str) -> None:
    save_note(Handle(study, number), body)  # type: ignore[arg-type]


def stored(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


@explain_failures
def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 10)
    code = suggest_text(trial, "code", START, language="python", description="Defines f.")
    if "oops" in code:
        raise ValueError("oops is no name")
    value = 0.5 if code == START else x
    report_feedback(trial, f"f(1) is {value}")
    return value


def make_study(**where: Any) -> optuna.Study:
    usage = Usage(prompt_tokens=1_000, cached_tokens=600, completion_tokens=100)
    codes = ["a = 2", "oops", "a = 3"]
    replies = [
        Completion(
            write_reply({"x": i + 1}, {"code": START.replace("a = 1", code)}, f"Try {code}."),
            "gpt-x",
            usage,
        )
        for i, code in enumerate(codes)
    ]
    sampler = LLMSampler(
        "Make *f* good.\n\n1. Be quick.\n", model=ScriptedModel([*replies, ModelError("down")])
    )
    study = optuna.create_study(direction="maximize", sampler=sampler, **where)
    study.optimize(objective, 5, catch=Exception)
    return study


@pytest.fixture
def study() -> optuna.Study:
    return make_study(study_name="it's")


def test_the_note_on_a_proposal_has_its_rationale_and_its_changes(study: optuna.Study) -> None:
    annotate(study)
    parent = told(study.trials[3], "parent")
    before = get_texts(study.trials[parent])["code"].splitlines()[1]
    note = trial_note(study, 3).split("\n\n")
    assert note[1:3] == [
        "**3**, the best when it completed, proposed by ScriptedModel (gpt\\-x), "
        f"from trial {parent}",
        "> Try a \\= 3\\.",
    ]
    assert re.fullmatch(r"x \d\\\.\d+ → \*\*3\\\.0\*\*", note[3])
    assert note[4] == f"**code**: changes to trial {parent}"
    assert note[5] == (
        f"```diff\n@@ -1,3 +1,3 @@\n def f(x):\n-{before}\n+    a = 3\n     return a\n```"
    )
    assert note[6:8] == ["**code**", "```python\n" + START.replace("1", "3") + "```"]
    assert note[8:10] == ["**Feedback**", "```text\nf(1) is 3.0\n```"]
    assert note[10].startswith(
        "Cost: 1 call, 1,000 prompt tokens (600 cached), 100 completion tokens, "
    )


def test_the_notes_on_initial_and_failed_trials_say_so(study: optuna.Study) -> None:
    annotate(study)
    start, failed, lost = (trial_note(study, number) for number in (0, 2, 4))
    assert "**0.5**, initial text\n\n**code**\n\n```python\n" + START in start
    assert "diff" not in start
    assert "**Failed**, proposed by ScriptedModel (gpt\\-x)" in failed
    assert "ValueError: oops is no name" in failed
    assert "**The model's proposal was not used:** down" in lost


def test_the_note_on_a_study_covers_task_progress_cost_and_continuation(
    study: optuna.Study,
) -> None:
    annotate(study, prices=Prices(prompt=1, cached=0, completion=10))
    note = get_note(study)
    assert "## Task\n\nMake \\*f\\* good\\.\n\n1\\. Be quick\\.\n\nObjective:" in note
    assert "Objective: maximize value" in note
    assert "Trial 3: **3**, proposed by ScriptedModel (gpt\\-x), from trial" in note
    assert "```python\n" + START.replace("1", "3") + "```" in note
    assert "| 1 | 1 | 0 | model | Try a \\= 2\\. |" in note
    assert "- x: float from 0\\.0 to 10\\.0" in note
    assert "- code, a text in python: Defines f\\." in note
    assert "3 complete, 2 failed" in note
    assert "| model | 3 | 3 | 3,000 | 1,800 | 300 | 0.0 | 0.0042 |" in note
    assert "| gpt\\-x | 3 | 3,000 | 1,800 | 300 | 0.0 | 0.0042 |" in note
    assert 'study_name="it\'s"' in note


def test_the_note_on_a_study_tells_of_changed_requests_and_unclaimed_cost(
    study: optuna.Study,
) -> None:
    annotate(study)
    assert "Changed requests" not in get_note(study)
    assert "Unclaimed" not in get_note(study)
    spent = {"calls": 2, "prompt_tokens": 2_000, "completion_tokens": 50, "seconds": 1.5}
    study.set_user_attr("llm:unclaimed:worker", {"gpt-x": spent})
    changes = {"temperature": "left out", "max_tokens": "sent as max_completion_tokens"}
    study.set_user_attr("llm:adaptations", {"gpt-x": changes})
    annotate(study)
    note = get_note(study)
    assert note.index("## Changed requests") < note.index("## Best trial")
    assert "- gpt\\-x: **temperature**: left out\n" in note
    assert "- gpt\\-x: **max\\_tokens**: sent as max\\_completion\\_tokens" in note
    assert "| unclaimed | 0 | 2 | 2,000 | 0 | 50 | 1.5 |" in note
    assert "*Unclaimed: calls whose proposals no trial has used" in note


def test_no_stored_word_is_markup_in_a_note(study: optuna.Study) -> None:
    hostile = "<b> ![a](http://x.y/z) [a](javascript:alert(1)) http://x.y | `` \n# a"
    proposal = {"model": hostile, "error": hostile, "rationale": hostile, "source": hostile}
    own = {"llm:proposal": proposal | {"calls": 1}, "feedback": {hostile: hostile}}
    study.add_trial(create_trial(value=9, user_attrs=own))
    study.set_user_attr("llm:task", hostile)
    study.set_user_attr("llm:text:a", {"description": hostile, "language": hostile})
    study.set_user_attr("llm:unclaimed:a", {hostile: {"calls": 1}})
    study.set_user_attr("llm:adaptations", {hostile: {hostile: hostile}})
    study.set_metric_names([hostile])
    annotate(study)
    for note in (get_note(study), trial_note(study, 5)):
        kinds = {token.type for token in parse(note)}
        assert not kinds & {"html_inline", "html_block", "link_open", "image", "h1"}
        prose = "".join(token.content for token in parse(note) if token.type == "text")
        assert "http://" not in prose
        assert "# a" in prose


def test_a_long_paragraph_is_shown_in_full_and_its_diff_by_sentence() -> None:
    study = optuna.create_study()
    sentences = [f"This is rule {i} of those that are to be kept to." for i in range(80)]
    changed = " ".join([*sentences[:50], "This is a better rule.", *sentences[51:]])
    for number, text in enumerate([" ".join(sentences), changed]):
        proposal = {"parent": 0 if number else None, "texts": {"prompt": 1}}
        attributes = {"prompt": text, "llm:proposal": proposal}
        study.add_trial(create_trial(value=-number, user_attrs=attributes))
    annotate(study)
    assert changed in get_note(study).replace("\n", "")
    diff = trial_note(study, 1).partition("```diff")[2].partition("```")[0]
    signs = [line[:10] for line in diff.splitlines() if line[:1] in ("-", "+")]
    assert signs == ["-This is r", "+This is a"]


def test_annotating_an_unchanged_study_writes_nothing(study: optuna.Study) -> None:
    annotate(study)
    before = stored(study)
    annotate(study)
    assert stored(study) == before


def test_a_note_that_a_user_wrote_or_edited_is_left_alone(study: optuna.Study) -> None:
    save_note(study, "Mine.")
    edit_note(study, 1, "Mine too.")
    annotate(study)
    edit_note(study, 2, trial_note(study, 2).partition("\n")[2])  # The line that says whose it is.
    edit_note(study, 3, "")
    study.optimize(objective, 1, catch=Exception)
    annotate(study)
    assert get_note(study) == "Mine."
    assert trial_note(study, 1) == "Mine too."
    assert trial_note(study, 2).startswith("\n**Failed**")
    assert trial_note(study, 3) == ""


def test_a_note_that_a_killed_worker_left_incomplete_is_rewritten(study: optuna.Study) -> None:
    annotate(study)
    whole = trial_note(study, 3)
    edit_note(study, 3, whole[: len(whole) // 2])
    annotate(study)
    assert trial_note(study, 3) == whole


def test_the_note_on_a_study_is_updated(study: optuna.Study) -> None:
    annotate(study)
    study.add_trial(create_trial(value=9, user_attrs={"llm:proposal": {"source": "user"}}))
    annotate(study)
    assert "Trial 5: **9**, enqueued by the user" in get_note(study)
    assert "**9**, the best when it completed" in trial_note(study, 5)
    named = {"llm:proposal": {"source": "user", "proposer": "Ada"}}
    study.add_trial(create_trial(value=10, user_attrs=named))
    annotate(study)
    assert "**10**, the best when it completed, proposed by Ada" in trial_note(study, 6)


def make_long_study(n_trials: int, steps: int) -> optuna.Study:
    """Texts of 5 kB, of which a line differs; every so many trials a better value."""
    study = optuna.create_study(direction="maximize")
    lines = [f"line {i} of a program\n" for i in range(200)]
    for number in range(n_trials):
        text = "".join([*lines[:100], f"step {number}\n", *lines[100:]])
        proposal = {"source": "model", "texts": {"code": 1}}
        proposal |= {"parent": number - 1} if number else {}
        value = number if number % steps == 0 else -1
        attributes = {"code": text, "llm:proposal": proposal}
        study.add_trial(create_trial(value=value, user_attrs=attributes))
    return study


def test_beyond_two_thirds_of_the_rows_only_improvements_get_notes() -> None:
    study = make_long_study(200, 5)
    annotate(study, max_rows=60)
    noted = [t.number for t in study.trials if trial_note(study, t.number)]
    everyone = next(n for n in range(200) if n not in noted)
    assert 10 < everyone < 20
    assert all(number % 5 == 0 for number in noted if number > everyone)
    assert noted[-1] > everyone + 20
    rows = [key for key in stored(study) if key.startswith("dashboard:") and key[10].isdigit()]
    assert 55 <= len(rows) <= 60
    assert "line 199 of a program" in trial_note(study, 5)
    assert "line 199 of a program" not in trial_note(study, noted[-1])
    assert "+step 195" in get_note(study) or "step 195" in get_note(study)


def test_notes_on_trials_can_be_switched_off() -> None:
    study = make_long_study(3, 1)
    annotate(study, max_rows=0)
    assert "Trial 2" in get_note(study)
    assert not trial_note(study, 2)
    with pytest.raises(ValueError, match="max_rows must be 0 or more: -1"):
        annotate(study, max_rows=-1)
    with pytest.raises(ValueError, match="max_rows must be 0 or more: -1"):
        DashboardNotes(max_rows=-1)


def test_plots_take_few_rows_however_long_the_study() -> None:
    study = make_long_study(3_000, 100)
    annotate(study)
    rows = [key for key in stored(study) if key.startswith("dashboard:plot_data:")]
    assert {key.split(":")[2] for key in rows} == {"llm-sources", "llm-lineage", "llm-usage"}
    assert len(rows) < 25


def test_several_objectives_show_the_pareto_front() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_metric_names(["loss", "speed"])
    for loss, speed in [(1, 1), (2, 3), (3, 2), (0.5, 0)]:
        study.add_trial(create_trial(values=[loss, speed]))
    annotate(study)
    note = get_note(study)
    assert "Objective: minimize loss, maximize speed" in note
    assert "## Pareto front" in note
    assert "Trial 1: **loss 2, speed 3**" in note
    assert "Trial 2:" not in note
    assert "on the Pareto front when it completed" in trial_note(study, 3)
    assert "when it completed" not in trial_note(study, 2)


def test_an_empty_study_has_a_note_and_no_plots() -> None:
    study = optuna.create_study()
    annotate(study)
    assert "*No trial is complete yet.*" in get_note(study)
    assert not [key for key in stored(study) if "plot" in key]


def test_without_plotly_there_are_notes_and_one_warning(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch, logs: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    annotate(study)
    annotate(study)
    assert get_note(study)
    assert not [key for key in stored(study) if "plot" in key]
    assert logs.text.count('pip install "optuna-llm[plots]"') == 1


@pytest.fixture(params=["sqlite", "journal-file", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgresql":
        with new_database(POSTGRESQL, '"') as url:
            yield url
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    else:
        yield f"journal-file:{tmp_path}/study.log"


@pytest.mark.slow
def test_notes_and_plots_are_read_by_the_dashboard_from_each_storage(address: str) -> None:
    make_study(study_name="s", storage=open_storage(address))
    study = optuna.load_study(study_name="s", storage=open_storage(address))
    annotate(study)
    storage = open_storage(address)
    app = optuna_dashboard.wsgi(storage)
    answer = json.loads(fetch(app, f"/api/studies/{study._study_id}")[1])
    assert answer["note"]["body"] == get_note(study)
    assert [t["note"]["body"] for t in answer["trials"]] == [
        trial_note(study, n) for n in range(5)
    ]
    assert all("(end)" in t["note"]["body"] for t in answer["trials"])
    ids = {plot["id"] for plot in answer["plotly_graph_objects"]}
    assert ids == {"llm-sources", "llm-lineage", "llm-usage"}


def test_the_note_on_a_study_lists_programs_with_tunables_and_shows_texts_as_they_ran() -> None:
    def tuned(trial: optuna.Trial) -> float:
        start = "x = <<x = 0.5 in 0.0..1.0>>\nn = <<n = 3 in 1..9>>"
        text = suggest_text(trial, "code", start, tunable=True)
        return float(text.split()[2]) + float(text.split()[-1])

    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel([]), seed=0))
    study.optimize(tuned, n_trials=4)
    annotate(study)
    note = get_note(study).replace("\\", "")
    best = study.best_trial
    values = f"x = {best.params['code.x@0']}, n = {best.params['code.n@0']}"
    assert "## Tunables" in note
    assert values in note
    assert get_texts(best)["code"].splitlines()[0] in note
    assert "<<" not in note
    assert "- code.x@0" not in note
