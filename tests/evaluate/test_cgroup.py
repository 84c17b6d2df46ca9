"""Control groups: where they can be made, and what they hold."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import pytest

from optuna_llm.evaluate import Limits
from optuna_llm.evaluate import run_script
from optuna_llm.evaluate._cgroup import find_places
from optuna_llm.evaluate._cgroup import open_group


def lay_out(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "found"),
    [
        # A user's session, whose manager has been given a part of the tree.
        (
            "0::/user.slice/app.slice/term.scope\n",
            {
                "user.slice/app.slice/cgroup.subtree_control": "memory pids\n",
                "user.slice/app.slice/cgroup.procs": "",
                "user.slice/app.slice/term.scope/cgroup.subtree_control": "",
            },
            [("user.slice/app.slice", 2, ("memory", "pids"))],
        ),
        # Memory is not limited there.
        (
            "0::/app.slice/term.scope\n",
            {"app.slice/cgroup.subtree_control": "pids\n", "app.slice/cgroup.procs": ""},
            [],
        ),
        # The root of all, in a machine without an init of its own.
        (
            "0::/\n",
            {"cgroup.subtree_control": "cpu memory", "cgroup.procs": ""},
            [("", 2, ("memory",))],
        ),
        # A container, whose groups are hidden.
        ("0::/\n", {"cgroup.subtree_control": "", "cgroup.procs": ""}, []),
        # Version 1, with the second mounted beside it.
        (
            "8:pids:/\n4:memory:/a/b\n0::/\n",
            {"pids/cgroup.procs": "", "memory/a/b/cgroup.procs": ""},
            [("memory/a/b", 1, ("memory",)), ("pids", 1, ("pids",))],
        ),
        # Version 1 without what matters.
        ("8:pids:/\n", {"pids/cgroup.procs": ""}, []),
        ("", {}, []),
    ],
)
def test_a_place_for_groups_is_where_memory_can_be_limited(
    tmp_path: Path, own: str, files: dict[str, str], found: list[tuple[str, int, tuple[str, ...]]]
) -> None:
    (tmp_path / "own").write_text(own)
    lay_out(tmp_path / "groups", files)
    places = find_places(tmp_path / "groups", tmp_path / "own")
    assert [
        (
            str(place.folder.relative_to(tmp_path / "groups")).strip("."),
            place.version,
            place.controllers,
        )
        for place in places
    ] == found


def test_without_a_place_there_is_no_group(tmp_path: Path) -> None:
    assert find_places(tmp_path, tmp_path / "nothing") == []


def count_groups() -> int:
    """The groups of this process; others may run candidates at the same time."""
    own = f"optuna_llm-{os.getpid()}-*"
    return sum(len(list(place.folder.glob(own))) for place in find_places())


def test_no_group_is_left_behind() -> None:
    before = count_groups()
    run_script("print(1)", timeout=20)
    run_script("while True: pass", timeout=0.5)
    assert count_groups() == before


def test_a_group_ends_what_has_left_its_session() -> None:
    code = "import os, time; os.setsid(); print('ran', flush=True); time.sleep(100)"
    with open_group(Limits()) as group:
        if group is None:
            return  # Nor can there be one here.
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as out:
            assert out.readline() == b"ran\n"
        for folder in group._folders:
            (folder / "cgroup.procs").write_text(str(process.pid))
        group.kill()
        assert process.wait(20) == -9


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_processes_are_bounded_with_a_sandbox_and_without(sandbox: str) -> None:
    code = """
import os, time
count = 0
try:
    for _ in range(100):
        if os.fork() == 0: time.sleep(60); os._exit(0)
        count += 1
except OSError: pass
print(count)
"""
    execution = run_script(
        code,
        timeout=30,
        limits=Limits(processes=20),
        sandbox=sandbox,  # type: ignore[arg-type]
    )
    if "processes" in execution.missing:
        assert os.geteuid() == 0
    elif execution.contained:
        assert 15 <= int(execution.stdout) <= 20
    else:
        assert int(execution.stdout) <= 25
