"""The command line, ``optuna-llm``: watch a study, propose trials, evaluate them."""

from __future__ import annotations

from optuna_llm.cli._main import main


__all__ = ["main"]
