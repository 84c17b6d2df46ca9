"""What trials tell of their proposals."""

from __future__ import annotations

from typing import Any

from optuna.trial import BaseTrial
from optuna.trial import FrozenTrial


def told(trial: BaseTrial | FrozenTrial, name: str) -> Any:
    """A field of what is stored under ``llm:proposal``; None where it is not there."""
    return trial.user_attrs.get("llm:proposal", {}).get(name)
