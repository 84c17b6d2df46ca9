"""Runs of contained candidates, and what is to be seen of them from outside."""

from __future__ import annotations

from pathlib import Path

from optuna_llm.evaluate import Limits
from optuna_llm.evaluate import run_script


def run(
    code: str, timeout: float = 20, limits: Limits | None = None, network: bool = False
) -> str:
    """Both outputs of a contained script."""
    execution = run_script(
        code, timeout=timeout, sandbox="require", limits=limits, network=network
    )
    assert execution.contained
    assert execution.missing == ()
    return execution.stdout + execution.stderr


def commands_with(mark: str) -> list[int]:
    """The processes of this machine that have a word in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
