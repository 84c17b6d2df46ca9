"""Contained candidates end in time and take no more than they may."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from uuid import uuid4

from contained import run
from processes import commands_with
import pytest
from waiting import wait_for

from optuna_llm.evaluate import Limits
from optuna_llm.evaluate import run_script


pytestmark = pytest.mark.usefixtures("bubblewrap")


def test_an_endless_loop_ends_in_time() -> None:
    execution = run_script("while True: pass", timeout=1, sandbox="require")
    assert execution.timed_out
    assert not execution.ok
    assert execution.seconds < 20
    assert execution.feedback == "It was stopped at its time limit of 1 seconds."


CHILD = "import time; open('started', 'w').close(); time.sleep(100)"


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["", "time.sleep(100)"])
def test_a_child_that_left_its_session_does_not_outlive_it(ends: str) -> None:
    mark = f"mark-{uuid4().hex}"
    code = f"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        os.execv(sys.executable, [sys.executable, "-c", {CHILD!r}, "{mark}"])
    os._exit(0)
os.wait()
while not os.path.exists("started"): time.sleep(0.01)
print("ran")
sys.stdout.flush()
{ends}
"""
    assert "ran" in run(code, timeout=5)
    wait_for(lambda: not commands_with(mark))


@pytest.mark.slow
def test_a_fork_bomb_is_bounded() -> None:
    mark = f"mark-{uuid4().hex}"
    counts = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            counts.append(len(commands_with(mark)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = f"""
import os, sys, time
if len(sys.argv) == 1:
    os.execv(sys.executable, [sys.executable, __file__, "{mark}"])
while True:
    try: os.fork()
    except OSError: time.sleep(0.01)
"""
    execution = run_script(code, timeout=2, sandbox="require", limits=Limits(processes=40))
    over.set()
    watcher.join()
    assert execution.timed_out
    # Beside the bomb's own there are the sandbox's processes, with its command in theirs.
    assert 10 < max(counts) <= 45
    assert execution.limits["processes"] == "tree"
    wait_for(lambda: not commands_with(mark))


SMALL = Limits(memory=400 * 1024**2, file_size=60 * 1024**2, processes=40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(500 * 1024**2)",
        "import mmap\nx = [mmap.mmap(-1, 50 * 1024**2) for _ in range(10)]\n"
        "for m in x: m.write(bytes(len(m)))",
        "import os\nx = []\nwhile True:\n"
        "    x.append(os.memfd_create('m'))\n    os.write(x[-1], bytes(50 * 1024**2))",
    ],
    ids=["heap", "shared", "memfd"],
)
def test_one_process_does_not_get_more_memory_than_its_limit(code: str) -> None:
    execution = run_script(f"{code}\nprint('GOT IT')", timeout=20, sandbox="require", limits=SMALL)
    assert not execution.ok
    assert "GOT IT" not in execution.stdout


@pytest.mark.slow
def test_many_processes_share_one_limit_of_memory_or_the_result_says_that_they_do_not() -> None:
    code = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        block = b"x" * (150 * 1024**2)
        time.sleep(1)
        os._exit(0)
print([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(5)])
"""
    execution = run_script(code, timeout=20, sandbox="require", limits=SMALL)
    if execution.limits["memory"] == "tree":
        assert "-9" in execution.stdout
        assert "took more than 419,430,400 bytes of memory" in execution.feedback
    else:
        assert execution.limits["memory"] == "process"
        assert execution.stdout == "[0, 0, 0, 0, 0]\n"


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/candidate"])
def test_files_are_bounded_together_wherever_they_can_be_written(folder: str) -> None:
    code = f"""
written = 0
try:
    for i in range(100):
        with open(f"{folder}/{{i}}", "wb") as file:
            written += file.write(bytes(1024 * 1024))
except OSError as error: print(error, written)
"""
    seen = run(code, limits=Limits(file_size=20 * 1024**2))
    assert seen.startswith("[Errno 28] No space left on device")
    assert int(seen.split()[-1]) <= 20 * 1024**2


def test_a_file_is_bounded() -> None:
    code = "with open('big', 'wb') as f:\n    for _ in range(99): f.write(bytes(1024 * 1024))"
    seen = run(code, limits=Limits(file_size=20 * 1024**2))
    assert "File too large" in seen or "No space left" in seen


@pytest.mark.slow
def test_of_a_gigabyte_printed_the_end_is_kept() -> None:
    code = "import sys\nfor _ in range(1024): sys.stdout.write('x' * 1024 * 1024)\nprint('end')"
    execution = run_script(code, timeout=60, sandbox="require", limits=Limits(output=10_000))
    assert execution.ok
    assert len(execution.stdout) < 10_100
    assert execution.stdout.startswith("[… 1,073,731,828 bytes before this are left out …]")
    assert execution.stdout.endswith("xend\n")


def test_a_sandbox_that_is_killed_is_a_failure_in_words() -> None:
    mark = f"mark-{uuid4().hex}"
    code = "import time\ntime.sleep(100)"
    killed = threading.Event()

    def kill() -> None:
        while not killed.wait(0.01):
            for pid in commands_with(f"OPTUNA_{mark}"):
                os.kill(pid, 9)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        execution = run_script(
            code,
            timeout=60,
            sandbox="require",
            interpreter=[sys.executable, "-X", f"OPTUNA_{mark}"],
        )
    finally:
        killed.set()
        killer.join()
    assert execution.returncode == -9
    assert not execution.timed_out
    assert "killed by signal 9" in execution.feedback


@pytest.mark.slow
def test_it_does_not_outlive_the_process_that_runs_it() -> None:
    mark = f"mark-{uuid4().hex}"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from optuna_llm.evaluate import run_script\n"
            "run_script('import time; time.sleep(100)', timeout=100, sandbox='require', "
            f"interpreter=[sys.executable, '-X', 'OPTUNA_{mark}'])",
        ]
    )
    try:
        # Two of bubblewrap, the launcher's and its own.
        wait_for(lambda: len(commands_with(f"OPTUNA_{mark}")) == 4)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not commands_with(f"OPTUNA_{mark}"))
