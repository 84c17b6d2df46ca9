"""What a user may name as a model, made into one."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import os
from typing import TypeAlias

from optuna_llm._records import Message
from optuna_llm.models._chat import ChatModel
from optuna_llm.models._chat import FunctionModel
from optuna_llm.models._chat import WAYS_OUT


ModelLike: TypeAlias = ChatModel | Callable[[Sequence[Message]], str] | str | None
"""What names a model: the model, a function, a name, or None for what the environment says."""

_LITELLM = "litellm/"


def resolve_model(model: ModelLike, seed: int | None = None) -> ChatModel:
    """The model that is meant.

    Args:
        model: A model, a function ``messages -> str``, or a name: ``"offline"``, what an
            OpenAI-compatible server calls its model, or ``"litellm/"`` and litellm's name for
            it. None is the name in ``OPTUNA_LLM_MODEL``.
        seed: For the stand-in model.

    Raises:
        ValueError: If no model is named, or the one named cannot be reached.
        TypeError: If it is something else.
    """
    if model is None:
        model = os.environ.get("OPTUNA_LLM_MODEL", "")
        if not model:
            raise ValueError(f"No model is named, here or in OPTUNA_LLM_MODEL. {WAYS_OUT}")
    if model == "offline":
        from optuna_llm.models._offline import OfflineModel

        return OfflineModel(seed)
    if isinstance(model, str) and model.startswith(_LITELLM):
        from optuna_llm.models._litellm import LiteLLMModel

        return LiteLLMModel(model.removeprefix(_LITELLM))
    if isinstance(model, str):
        from optuna_llm.models._openai import OpenAIModel

        return OpenAIModel(model)
    if isinstance(model, ChatModel) and not isinstance(model, type):
        return model
    if callable(model) and not isinstance(model, type):
        return FunctionModel(model)
    raise TypeError(f"A model is a ChatModel, a function messages -> str or a name: {model!r}.")
