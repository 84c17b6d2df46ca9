"""What can be asked for a trial's values: chat models, and what stands in for one."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from typing import TYPE_CHECKING

from optuna_llm.models._chat import ChatModel
from optuna_llm.models._chat import FunctionModel
from optuna_llm.models._resolve import ModelLike
from optuna_llm.models._resolve import ModelsLike
from optuna_llm.models._resolve import resolve_model
from optuna_llm.models._resolve import resolve_models


if TYPE_CHECKING:
    from optuna_llm.models._command import CommandModel
    from optuna_llm.models._litellm import LiteLLMModel
    from optuna_llm.models._offline import OfflineModel
    from optuna_llm.models._openai import OpenAIModel
    from optuna_llm.models._replay import ReplayModel

__all__ = [
    "ChatModel",
    "CommandModel",
    "FunctionModel",
    "LiteLLMModel",
    "ModelLike",
    "ModelsLike",
    "OfflineModel",
    "OpenAIModel",
    "ReplayModel",
    "resolve_model",
    "resolve_models",
]

# Imported when they are asked for, since a study needs one of them at most.
_LAZY = {
    "CommandModel": "_command",
    "LiteLLMModel": "_litellm",
    "OfflineModel": "_offline",
    "OpenAIModel": "_openai",
    "ReplayModel": "_replay",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
