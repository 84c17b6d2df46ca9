"""Programs that mean no harm run in a sandbox as they would outside."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from optuna_llm.evaluate import Limits
from optuna_llm.evaluate import run_python
from optuna_llm.evaluate import run_script


SANDBOXES = ["auto", "none"]

ITSELF = """
import inspect, os, sys

def f(n: int = 3) -> "str":
    return n

found = {
    "name": __name__,
    "file": os.path.basename(__file__),
    "folder": os.path.dirname(os.path.abspath(__file__)) == os.getcwd() == sys.path[0],
    "arguments": [os.path.basename(a) for a in sys.argv],
    "source": inspect.getsource(f),
    "annotations": [repr(f.__annotations__["n"]), f.__annotations__["return"]],
    "main": sys.modules["__main__"].__dict__ is globals(),
    "ours": [m for m in sys.modules if "harness" in m or "transfer" in m or "launcher" in m],
    "spec": __spec__,
    "threads": len(__import__("threading").enumerate()),
}
import json
print(json.dumps(found))
"""


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_program_finds_itself_as_a_script_does(tmp_path: Path, sandbox: Any) -> None:
    (tmp_path / "program.py").write_text(ITSELF)
    bare = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    script = run_script(ITSELF, timeout=20, sandbox=sandbox)
    assert script.stdout == bare.stdout
    python = run_python(ITSELF, outputs=["found"], timeout=20, sandbox=sandbox)
    assert python.stdout == bare.stdout


POOLS = {
    context: f"""
import multiprocessing as mp
def square(x): return x * x
if __name__ == "__main__":
    with mp.get_context("{context}").Pool(2) as pool:
        total = sum(pool.map(square, range(5)))
"""
    for context in ("fork", "spawn", "forkserver")
}
POOLS["joblib"] = """
from joblib import Parallel, delayed
def square(x): return x * x
if __name__ == "__main__":
    total = sum(Parallel(n_jobs=2)(delayed(square)(i) for i in range(5)))
"""
POOLS["shared memory"] = """
from multiprocessing import Lock, shared_memory
lock = Lock()
block = shared_memory.SharedMemory(create=True, size=5000)
block.buf[:5] = bytes([0, 1, 4, 9, 16])
total = sum(block.buf[:5])
block.close()
block.unlink()
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", POOLS.values(), ids=POOLS)
def test_worker_processes_work(code: str) -> None:
    execution = run_python(code, outputs=["total"], timeout=60)
    assert (execution.values, execution.stderr) == ({"total": 30}, "")
    script = run_script(f"{code}\nif __name__ == '__main__': print(total)", timeout=60)
    assert (script.stdout, script.stderr) == ("30\n", "")


@pytest.mark.parametrize("locale", ["C", "de_DE.ISO-8859-1"])
@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_text_is_utf_8_whatever_the_locale(
    monkeypatch: pytest.MonkeyPatch, locale: str, sandbox: Any
) -> None:
    for name in ("LC_ALL", "LANG"):
        monkeypatch.setenv(name, locale)
    code = "open('f', 'w').write(input())\nprint(open('f').read(), 'é', ascii(open('f').read()))"
    execution = run_script(code, stdin="字", timeout=20, sandbox=sandbox)
    assert execution.stdout == "字 é '\\u5b57'\n"
    assert execution.stderr == ""


@pytest.mark.parametrize("processes", [2, 4])
def test_numeric_libraries_start_no_more_threads_than_they_may(processes: int) -> None:
    execution = run_python(
        "import numpy; y = float((X @ X).sum())",
        inputs={"X": np.ones((200, 200))},
        outputs=["y"],
        timeout=60,
        limits=Limits(processes=processes),
    )
    assert (execution.values, execution.stderr) == ({"y": 8e6}, "")


def test_exit_handlers_and_threads_come_to_their_end() -> None:
    code = """
import atexit, threading, time
atexit.register(print, "bye")
def work():
    time.sleep(0.1)
    print("worked")
threading.Thread(target=work).start()
y = 1
"""
    execution = run_python(code, outputs=["y"], timeout=20)
    assert (execution.values, execution.stdout) == ({"y": 1}, "worked\nbye\n")


def test_another_language_finds_its_own_library() -> None:
    execution = run_script(
        "use POSIX; use List::Util 'sum'; print sum(1, 2), floor(2.5)",
        interpreter=["perl"],
        timeout=20,
    )
    assert (execution.stdout, execution.stderr) == ("32", "")


def test_an_interpreter_that_is_not_there_is_a_failure_in_words() -> None:
    execution = run_script("x", interpreter=["no-such-thing"], timeout=20)
    assert execution.returncode == 127
    assert "no-such-thing" in execution.feedback


def test_time_zones_and_programs_of_the_system_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    code = "import subprocess, time\n"
    code += "print(time.tzname[0], subprocess.run(['ls', '/'], capture_output=True).returncode)"
    assert run_script(code, timeout=20).stdout == "JST 0\n"


def test_a_folder_for_temporary_files_that_is_not_there_is_a_failure_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    execution = run_script("pass", timeout=20, sandbox="none")
    assert execution.returncode == 1
    assert "could not be set up" in execution.feedback


@pytest.mark.skipif(not os.path.exists("/dev/pts"), reason="no terminals")
def test_it_can_open_a_terminal_of_its_own() -> None:
    assert run_script("import pty; print(len(pty.openpty()))", timeout=20).stdout == "2\n"
