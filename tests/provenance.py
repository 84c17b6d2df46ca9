"""What trials tell of their proposals."""

from __future__ import annotations

from typing import Any

from optuna.trial import BaseTrial
from optuna.trial import FrozenTrial


def told(trial: BaseTrial | FrozenTrial, name: str) -> Any:
    """A field of what is stored under ``llm:proposal``; None where it is not there."""
    return trial.user_attrs.get("llm:proposal", {}).get(name)


def only_models(turns: object, candidates: Any, rng: object) -> list[str]:
    """The rule without the base sampler, for what is to be seen of the model alone."""
    return [candidate.name for candidate in candidates if candidate.is_model]
