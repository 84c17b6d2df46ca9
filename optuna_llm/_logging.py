"""Loggers that speak where Optuna's do, and as loud."""

from __future__ import annotations

import logging

import optuna


def get_logger(name: str) -> logging.Logger:
    """A logger below ``optuna_llm`` whose handler and verbosity are those of Optuna.

    So ``optuna.logging.set_verbosity`` and ``enable_propagation`` hold for it too.
    """
    logging.getLogger("optuna_llm").parent = optuna.logging.get_logger("optuna")
    return logging.getLogger(name)
