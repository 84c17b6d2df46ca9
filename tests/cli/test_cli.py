"""The command line, in process, on an SQLite database and a journal."""

from __future__ import annotations

import base64
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import json
from pathlib import Path
import signal
import socket
import subprocess
import sys
from typing import Any
import urllib.request
import zlib

from click.testing import CliRunner
from click.testing import Result
import optuna
from optuna.storages.journal import JournalFileBackend
import pytest
from test_storages import new_database
from test_storages import POSTGRESQL
from waiting import accepts_connections
from waiting import wait_for

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm.cli import main
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


OBJECTIVE = """\
from optuna_llm import report_feedback, suggest_text


def objective(trial):
    size = trial.suggest_int("size", 1, 99)
    code = suggest_text(trial, "code", "def f():\\n    return 1\\n", language="python")
    suggest_text(trial, "notes", "None.", description="Whatever it is.")
    if "?" in code:
        raise ValueError("A program has no question mark.")
    report_feedback(trial, f"{len(code)} characters.")
    return len(code) + size


def other(trial):
    return trial.suggest_float("x", 0, 1), 1
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run optuna-llm in a folder that has an objective."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "golf.py").write_text(OBJECTIVE)
    before = list(sys.path), set(sys.modules)

    def invoke(*arguments: object, status: int = 0, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        assert result.exit_code == status, result.output
        if status:
            # One line says what is wrong, after click's own on how to use it.
            assert result.stderr.splitlines()[-1].startswith("Error: ")
            assert result.stdout == ""
        return result

    yield invoke
    sys.path[:] = before[0]
    for name in sys.modules.keys() - before[1]:
        if "golf" in name:
            del sys.modules[name]


@pytest.fixture(params=["journal", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "postgresql":
        with new_database(POSTGRESQL, '"') as url:
            yield url
    else:
        yield {"journal": "study.log", "sqlite": "study.db"}[request.param]


def start(run: Run, storage: str) -> None:
    run("run", storage, "golf.py:objective", "--direction", "minimize", "--task", "Be short.")


def test_a_study_is_written_to_a_page(run: Run) -> None:
    start(run, "study.log")
    assert run("report", "study.log").stdout == "Written to report.html.\n"
    assert Path("report.html").read_text().startswith("<!doctype html>")
    said = run("report", "study.log", "-o", "absent/page.html", status=1).stderr
    assert said == "Error: absent/page.html cannot be written: No such file or directory.\n"


def test_a_page_can_contain_the_log_of_calls(run: Run) -> None:
    start(run, "study.log")
    call = {"time": "2026-01-01T00:00:00.000+00:00", "trial": 0, "reply": "Why not?"}
    Path("calls.jsonl").write_text(json.dumps(call) + "\n")
    run("report", "study.log", "--log", "calls.jsonl", "--log-trial", 0)
    assert '"has_calls":true' in unpack_study(Path("report.html"))
    said = run("report", "study.log", "--log", "calls.jsonl", "--log-trial", 9, status=1).stderr
    assert said == "Error: The study has no trial 9.\n"
    said = run("report", "study.log", "--log-trial", 0, status=1).stderr
    assert said == "Error: log_trials needs log_file, where their calls were logged.\n"


def unpack_study(page: Path) -> str:
    packed = page.read_text().partition('class="study">')[2].partition("<")[0]
    return zlib.decompress(base64.b64decode(packed)).decode()


def test_a_study_is_driven_from_the_first_trial_to_the_files_of_the_best(
    run: Run, storage: str
) -> None:
    start(run, storage)
    assert "Be short.\n" in run("ask", storage).stdout
    Path("better.py").write_text("f = 1\n")
    proposed = run(
        "propose",
        storage,
        "--from",
        0,
        "--set",
        "size=1",
        "--text",
        "code=better.py",
        "--as",
        "Ada",
        "-m",
        "Shorter.",
    )
    assert proposed.stdout == "Enqueued as trial 1.\n"
    # In the form that is asked for, from the standard input; it fails, which is a result too.
    reply = write_reply({"size": 7}, {"code": "?", "notes": "Why?"}, "A question.")
    assert json.loads(run("propose", storage, "--json", stdin=reply).stdout) == {"trial": 2}
    listed = run("show", storage).stdout
    assert "3 trials: 1 complete, 2 waiting" in listed
    # How wide the column is depends on the number that was drawn for trial 0.
    assert " ".join(listed.split()).endswith("size = 7 A question.")
    evaluated = run("run", storage, "golf.py").stdout
    assert "trial 1: 7, a new best\n  6 characters.\n" in evaluated
    assert "trial 2: failed\n  Traceback" in evaluated
    assert "ValueError: A program has no question mark." in evaluated
    assert run("run", storage, "golf.py").stderr == "No trial is enqueued.\n"
    shown = run("show", storage, "--trial", 1).stdout
    assert shown == (
        "trial 1: 7, the best so far\nby: Ada (user)\nmade from: trial 0\nrationale: Shorter.\n"
        "numbers: size = 1\ncode:\n```python\nf = 1\n```\nnotes:\n```\nNone.\n```\n"
        "feedback:\n```\n6 characters.\n```\n"
    )
    assert run("best", storage).stdout == shown
    run("notes", storage)
    assert run("usage", storage).stdout.startswith("       calls")
    exported = run("export", storage, "-o", "out/best").stdout.splitlines()
    assert exported == [str(Path("out/best/code.py")), str(Path("out/best/notes.txt"))]
    assert Path("out/best/code.py").read_bytes() == b"f = 1\n"


def test_what_is_printed_as_json_holds_all_that_is_printed_in_words(run: Run) -> None:
    start(run, "study.log")
    (ask, *_) = [json.loads(run("ask", "study.log", "--json").stdout)]
    assert [message["role"] for message in ask["messages"]] == ["system", "user"]
    study = json.loads(run("show", "study.log", "--json").stdout)
    assert study["study"] == "golf"
    assert study["objectives"] == [{"name": "value", "direction": "minimize"}]
    assert study["best"] == [0]
    (trial,) = study["trials"]
    assert trial["feedback"] == "22 characters."
    assert trial["texts"]["notes"] == "None."
    assert trial["source"] == "initial"
    assert json.loads(run("best", "study.log", "--json").stdout) == [trial]
    assert json.loads(run("show", "study.log", "-t", 0, "--json").stdout) == trial
    assert json.loads(run("usage", "study.log", "--json").stdout)["calls"] == 0
    assert json.loads(run("show", "study.log", "--json", "-n", 0).stdout)["trials"] == []


def test_a_model_and_people_share_a_study(run: Run) -> None:
    start(run, "study.log")
    storage = optuna.storages.JournalStorage(JournalFileBackend("study.log"))
    names: dict[str, Any] = {}
    exec(OBJECTIVE, names)
    model = ScriptedModel([write_reply({"size": 5}, {"code": "f = 2", "notes": "Mine."}, "Try.")])
    study = optuna.load_study(
        study_name="golf", storage=storage, sampler=LLMSampler(model=model, seed=0)
    )
    # The size of trial 0 is drawn.
    size, best = (1, 1) if study.trials[0].params["size"] > 1 else (2, 0)
    run("propose", "study.log", "--from", 0, "--set", f"size={size}")
    study.optimize(names["objective"], n_trials=2)
    listed = run("show", "study.log").stdout.splitlines()
    assert listed[3].split() == ["trial", "value", "by", "from", "numbers", "rationale"]
    assert listed[5].split()[1:4] == [str(22 + size), "user", "0"]
    assert listed[6].split()[:5] == ["2*", "10", "ScriptedModel", "(model)", str(best)]
    assert run("show", "study.log", "-n", 1).stdout.endswith("(2 earlier trials are not shown)\n")
    assert get_texts(study.trials[1])["code"] == "def f():\n    return 1\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "none.db"], "There is no storage at none.db."),
        (["show", "sqlite:///none.db"], "There is no storage at none.db."),
        (["show", "."], ". is a folder, not a storage."),
        (["show", "golf.py"], "golf.py is neither an SQLite database nor a journal."),
        (["show", "nonsense://x:secret@y/z"], "nonsense"),
        (["show", "empty.log"], "There is no study in empty.log."),
        (["show", "study.log", "-s", "x"], "There is no study 'x'; there are golf."),
        (["show", "study.log", "-t", 5], "There is no trial 5; the study has 1."),
        (["run", "new.db", "golf.py"], "--direction minimize or --direction maximize to create"),
        (["run", "study.log", "golf.py", "--direction", "maximize"], "is to minimize."),
        (["run", "study.log", "broken.py"], "broken.py cannot be imported."),
        (["propose", "study.log", "--from", 7, "--set", "size=5"], "parent=7 is not the number"),
        (["propose", "study.log", "--set", "size=500", "--from", 0], 'size": 500 is not allowed'),
        (["propose", "study.log", "--set", "size=x", "--from", 0], 'size": "x" is not allowed'),
        (["propose", "study.log", "--set", "siz=5", "--from", 0], 'no number parameter "siz"'),
        (["propose", "study.log", "--set", "size=5"], 'there is no "code" in "texts"'),
        (["propose", "study.log", "--from", 0, "--text", "code=none.py"], "none.py"),
        (["propose", "study.log", "golf.py"], 'there is no <text name="code"> block.'),
        (["export", "study.log"], "code.py, notes.txt exists; --force overwrites"),
        (["export", "empty.log"], "There is no study"),
        (["dashboard", "none.db"], "There is no storage"),
    ],
)
def test_what_goes_wrong_is_one_line_and_status_1(
    run: Run, arguments: list[object], said: str
) -> None:
    start(run, "study.log")
    for name, text in {
        "empty.log": "",
        "broken.py": "1 / 0",
        "code.py": "",
        "notes.txt": "",
    }.items():
        Path(name).write_text(text)
    assert said in run(*arguments, status=1).stderr.splitlines()[-1]
    assert not {Path("none.db"), Path("new.db")} & set(Path().iterdir())
    study = json.loads(run("show", "study.log", "--json").stdout)
    assert len(study["trials"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["sho"],
        ["show"],
        ["show", "study.log", "--trial", "x"],
        ["run", "study.log", "none.py"],
        ["run", "study.log", "golf.py:none"],
        ["propose", "study.log", "none.txt"],
        ["propose", "study.log", "--set", "size"],
        ["propose", "study.log", "--set", "size=1", "--set", "size=2"],
        ["propose", "study.log", "golf.py", "--set", "size=1"],
    ],
)
def test_a_wrong_call_is_told_with_status_2(run: Run, arguments: list[object]) -> None:
    start(run, "study.log")
    run(*arguments, status=2)


def test_one_of_several_studies_is_named(run: Run) -> None:
    start(run, "study.log")
    run("run", "study.log", "golf.py", "-s", "two", "--direction", "maximize")
    said = run("show", "study.log", status=1).stderr
    assert said == "Error: Say which study by --study: golf, two.\n"
    assert "study two (value: maximize)" in run("show", "study.log", "-s", "two").stdout


def test_several_objectives_have_a_front(run: Run) -> None:
    directions = ["--direction", "minimize", "--direction", "maximize"]
    run("run", "study.log", "golf.py:other", *directions)
    run("propose", "study.log", "--set", "x=0.0")
    evaluated = run("run", "study.log", "golf.py:other").stdout
    assert evaluated.startswith("trial 1: 0, 1, a new best\n")
    assert "trial 1: 0, 1, on the front" in run("best", "study.log").stdout


@contextlib.contextmanager
def in_background(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A command that goes on until it is interrupted."""
    program = Path(sys.executable).with_name("optuna-llm")
    process = subprocess.Popen([program, *map(str, arguments)])
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_worker_takes_what_is_proposed_until_it_is_interrupted(run: Run) -> None:
    start(run, "study.log")
    with in_background("run", "study.log", "golf.py", "--watch"):
        for size in (1, 2):
            run("propose", "study.log", "--from", 0, "--set", f"size={size}")
            wait_for(lambda n=size + 1: f"{n} complete" in run("show", "study.log").stdout)


@pytest.mark.slow
def test_the_dashboard_is_served_until_it_is_interrupted(run: Run) -> None:
    start(run, "study.log")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with in_background("dashboard", "study.log", "--port", port, "--log", "golf.py"):
        wait_for(lambda: accepts_connections(port))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies") as response:
            assert b"golf" in response.read()


def test_names_of_texts_make_names_of_files_in_the_folder(run: Run) -> None:
    storage = optuna.storages.JournalStorage(JournalFileBackend("study.log"))
    study = optuna.create_study(storage=storage)
    texts = {"../evil/x": "1", "query.SQL": "2", "a b": "3", "..": "4"}
    study.add_trial(
        optuna.create_trial(
            value=1, user_attrs={**texts, "llm:proposal": {"texts": dict.fromkeys(texts, 1)}}
        )
    )
    for name in texts:
        declared = {"language": "SQL", "description": "", "initial": None}
        study.set_user_attr(f"llm:text:{name}", declared)
    written = run("export", "study.log", "-o", "out").stdout.split()
    assert sorted(map(str, Path("out").iterdir())) == sorted(written)
    assert {Path(name).name for name in written} == {
        "_evil_x.sql",
        "query.SQL",
        "a_b.sql",
        "text.sql",
    }


def test_a_file_named_like_another_module_is_loaded_all_the_same(run: Run) -> None:
    Path("json.py").write_text(OBJECTIVE)
    run("run", "study.log", "json.py", "--direction", "minimize")
    assert "study json" in run("show", "study.log").stdout


@pytest.mark.parametrize("command", sorted(main.commands))
def test_each_command_explains_itself(run: Run, command: str) -> None:
    page = run(command, "--help").stdout
    assert page.startswith(f"Usage: main {command} ")
    assert "\b" not in page
    assert max(map(len, page.splitlines())) <= 80
    summary = page.splitlines()[2].strip()
    assert summary[0].isupper()
    assert summary.endswith(".")
    assert f"  {command} " in run("--help").stdout


def test_an_agent_gets_its_instructions(run: Run) -> None:
    skill = run("skill").stdout
    assert skill.startswith("---\nname: optuna-llm\ndescription: ")
    for line in skill.splitlines():
        if "optuna-llm " in line and "study.db" in line:
            assert line.partition("optuna-llm ")[2].split()[0] in main.commands
