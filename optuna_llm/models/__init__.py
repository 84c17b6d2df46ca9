"""What can be asked for a trial's values: chat models, and what stands in for one."""

from optuna_llm.models._chat import ChatModel
from optuna_llm.models._chat import FunctionModel
from optuna_llm.models._offline import OfflineModel
from optuna_llm.models._openai import OpenAIModel
from optuna_llm.models._replay import ReplayModel
from optuna_llm.models._resolve import ModelLike
from optuna_llm.models._resolve import resolve_model


__all__ = [
    "ChatModel",
    "FunctionModel",
    "ModelLike",
    "OfflineModel",
    "OpenAIModel",
    "ReplayModel",
    "resolve_model",
]
