from __future__ import annotations

import os
from pathlib import Path
import re
import shutil
import sys
from typing import Any
from uuid import uuid4

import optuna
import pytest

from optuna_llm.evaluate import _sandbox
from optuna_llm.evaluate import _seccomp
from optuna_llm.evaluate import Limits
from optuna_llm.evaluate import run_python
from optuna_llm.evaluate import run_script
from optuna_llm.evaluate import SandboxError


SANDBOXES = ["auto", "none"]


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_program_runs_and_says_what_it_did(sandbox: Any) -> None:
    code = "import sys\nprint('é 字', input())\nsys.stderr.write('warned')"
    execution = run_script(code, stdin="read\n", timeout=20, sandbox=sandbox)
    assert execution.ok
    assert (execution.stdout, execution.stderr) == ("é 字 read\n", "warned")
    assert 0 < execution.seconds < 20
    assert re.fullmatch(
        r"It ended normally after [\d.]+ seconds\.\né 字 read\nwarned", execution.feedback
    )


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_failure_is_a_value_with_the_programs_own_traceback(sandbox: Any) -> None:
    execution = run_script("def f():\n    raise KeyError('k')\nf()", timeout=20, sandbox=sandbox)
    assert execution.returncode == 1
    assert not execution.ok
    assert execution.feedback.startswith("It ended with exit code 1.\nTraceback")
    assert execution.feedback.endswith("KeyError: 'k'")
    assert "optuna_llm/" not in execution.feedback


@pytest.mark.parametrize("sandbox", SANDBOXES)
@pytest.mark.parametrize(
    ("code", "returncode", "says"),
    [
        ("raise SystemExit(3)", 3, "exit code 3"),
        ("def f(:", 1, "SyntaxError"),
        ("import os; os.kill(os.getpid(), 11)", -11, "signal 11, a crash in native code"),
        ("import os; os._exit(137)", 137, "exit code 137"),
    ],
)
def test_each_way_to_fail_has_its_words(
    code: str, returncode: int, says: str, sandbox: Any
) -> None:
    execution = run_script(code, timeout=20, sandbox=sandbox)
    assert execution.returncode == returncode
    assert says in execution.feedback


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_long_output_keeps_its_end_and_feedback_fits_the_model(sandbox: Any) -> None:
    execution = run_script("for i in range(99999): print(i)", timeout=30, sandbox=sandbox)
    assert execution.stdout.endswith("99998\n")
    assert len(execution.stdout) < 100_100
    assert len(execution.feedback) < 1_300
    assert execution.feedback.endswith("99998")


def test_another_interpreter_runs_another_language() -> None:
    execution = run_script("echo $((6 * 7))", interpreter=["sh"], timeout=20)
    assert execution.stdout == "42\n"


def test_variables_for_it_are_all_it_gets_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-secret")
    monkeypatch.setenv("SOMETHING", "else")
    code = "import os; print(sorted(os.environ))"
    execution = run_script(code, env={"ADDRESS": "here"}, timeout=20, sandbox="none")
    assert "'ADDRESS'" in execution.stdout
    assert "OPENAI" not in execution.stdout
    assert "SOMETHING" not in execution.stdout


def test_limits_alone_are_said_to_be_no_sandbox() -> None:
    execution = run_script("pass", timeout=20, sandbox="none")
    assert not execution.contained
    assert execution.limits["file_size"] == "process"
    assert "processes" not in execution.missing or os.geteuid() == 0
    assert run_script("pass", timeout=20, sandbox="container").contained


@pytest.mark.slow
def test_limits_alone_bound_memory_files_and_time() -> None:
    limits = Limits(memory=10**9, file_size=10**6, cpu_seconds=1)
    seen = run_script("bytearray(2 * 10**9)", timeout=20, sandbox="none", limits=limits)
    assert "MemoryError" in seen.stderr
    seen = run_script(
        "open('f', 'wb').write(bytes(10**7))", timeout=20, sandbox="none", limits=limits
    )
    assert "File too large" in seen.stderr
    seen = run_script("while True: pass", timeout=20, sandbox="none", limits=limits)
    assert seen.returncode in (-9, -24)
    assert not seen.timed_out


CHILD = "import time; open('started', 'w').close(); time.sleep(100)"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere its group is all that is known")
@pytest.mark.parametrize("ends", ["", "time.sleep(100)"])
def test_without_a_sandbox_a_child_that_left_its_session_ends_too(ends: str) -> None:
    mark = f"mark-{uuid4().hex}"
    code = f"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", {CHILD!r}, "{mark}"])
    os._exit(0)
while not os.path.exists("started"): time.sleep(0.01)
{ends}
"""
    execution = run_script(code, timeout=5 if ends else 50, sandbox="none")
    assert execution.seconds < 60  # The child would take a hundred.
    assert execution.timed_out == bool(ends)
    commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline")]
    assert not any(mark.encode() in command for command in commands)


def test_its_folder_is_gone_afterwards() -> None:
    execution = run_script("import os; print(os.getcwd())", timeout=20, sandbox="none")
    assert not Path(execution.stdout.strip()).exists()


@pytest.fixture
def _no_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which bubblewrap is not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_sandbox, "_found", None)
    monkeypatch.setattr(_sandbox, "_warned", set())


@pytest.mark.usefixtures("_no_bubblewrap")
def test_without_bubblewrap_one_warning_says_so(logs: pytest.LogCaptureFixture) -> None:
    executions = [run_script("print(1)", timeout=20) for _ in range(2)]
    assert [(e.ok, e.contained) for e in executions] == [(True, False)] * 2
    assert len(logs.records) == 1
    assert "Candidates run without a sandbox" in logs.text
    assert "apt install bubblewrap" in logs.text


@pytest.mark.usefixtures("_no_bubblewrap")
def test_a_warning_that_was_silenced_is_given_when_it_can_be_seen(
    logs: pytest.LogCaptureFixture,
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run_script("pass", timeout=20)
    assert logs.text == ""
    optuna.logging.set_verbosity(optuna.logging.INFO)
    run_script("pass", timeout=20)
    assert "Candidates run without a sandbox" in logs.text


@pytest.mark.usefixtures("_no_bubblewrap")
def test_a_sandbox_that_is_required_and_not_there_is_an_error() -> None:
    with pytest.raises(SandboxError, match="bubblewrap is not installed"):
        run_script("print(1)", timeout=20, sandbox="require")


@pytest.mark.usefixtures("bubblewrap")
def test_a_bubblewrap_that_fails_for_a_while_is_used_once_it_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fails = tmp_path / "fails"
    fails.touch()
    fake = tmp_path / "bwrap"
    real = shutil.which("bwrap")
    fake.write_text(f'#!/bin/sh\n[ -e {fails} ] && exit 1\nexec {real} "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(_sandbox, "_found", None)
    assert not run_script("pass", timeout=20).contained
    fails.unlink()
    assert run_script("pass", timeout=20).contained


@pytest.mark.usefixtures("bubblewrap")
def test_an_incomplete_sandbox_is_used_but_does_not_count_as_contained(
    monkeypatch: pytest.MonkeyPatch, logs: pytest.LogCaptureFixture
) -> None:
    machine = os.uname_result(("Linux", "here", "6.1.0", "", "riscv64"))
    monkeypatch.setattr(os, "uname", lambda: machine)
    monkeypatch.setattr(_sandbox, "_found", None)
    monkeypatch.setattr(_sandbox, "_warned", set())
    _seccomp.assemble_filter.cache_clear()
    try:
        executions = [
            run_script("import os; print(os.listdir('/'))", timeout=20) for _ in range(2)
        ]
        assert executions[0].ok
        assert "home" not in executions[0].stdout
        assert not executions[0].contained
        assert [record.levelname for record in logs.records] == ["WARNING"]
        assert "no filter of system calls" in logs.text
        with pytest.raises(SandboxError, match="no filter of system calls"):
            run_script("pass", timeout=20, sandbox="require")
    finally:
        _seccomp.assemble_filter.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"timeout": 0}, "timeout must be above 0"),
        ({"timeout": float("inf")}, "timeout must be above 0 seconds, and finite"),
        ({"stdin": "\ud800"}, "stdin is not valid Unicode"),
        ({"interpreter": []}, "interpreter must name a command"),
        ({"env": {"A=B": "c"}}, "env: 'A=B'"),
        ({"env": {"A": "\0"}}, "null characters"),
        ({"files": {"../up": ""}}, "'../up' must be a relative path"),
        ({"files": {"/etc/x": ""}}, "'/etc/x' must be a relative path"),
        ({"files": {"program.py": ""}}, "'program.py' is the program itself"),
        ({"files": {"a": "", "a/b": ""}}, "'a' is a file and the folder of 'a/b'"),
        ({"files": {"a": Path("/nowhere/at/all")}}, "there is no '/nowhere/at/all'"),
        ({"files": "/nowhere/at/all"}, "files must be a folder or a mapping"),
        ({"sandbox": "docker"}, "auto, require, container or none: 'docker'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run_script("pass", **{"timeout": 5, **arguments})


@pytest.mark.parametrize("run", [run_script, run_python])
def test_code_that_is_not_unicode_is_refused_before_it_runs(run: Any) -> None:
    with pytest.raises(ValueError, match="code is not valid Unicode"):
        run("x = '\ud800'", timeout=20)


def test_a_limit_must_be_a_number_above_0() -> None:
    with pytest.raises(ValueError, match="memory must be a whole number above 0: 0"):
        Limits(memory=0)
