"""Runs of contained candidates."""

from __future__ import annotations

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
