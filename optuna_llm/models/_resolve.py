"""What a user may name as a model, made into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import os
from typing import cast
from typing import TypeAlias

from optuna_llm._records import Message
from optuna_llm.models._chat import ChatModel
from optuna_llm.models._chat import FunctionModel
from optuna_llm.models._chat import WAYS_OUT


ModelLike: TypeAlias = ChatModel | Callable[[Sequence[Message]], str] | str | None
"""What names a model: the model, a function, a name, or None for what the environment says."""

ModelsLike: TypeAlias = ModelLike | Sequence[ModelLike] | Mapping[str, ModelLike]
"""One model or several, in the order of preference or by the names that trials tell of them."""

RESERVED_NAMES = ("base", "evaluation", "tune", "user")
"""Names of proposers that are no models."""

_MAX_NAME = 100
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


def resolve_models(models: ModelsLike, seed: int | None = None) -> dict[str, ChatModel]:
    """The models that are meant, by the name that their trials are stored with.

    Args:
        models: A model, several in a list, or names of your own to models; each as for
            :func:`resolve_model`. In a list, a model's name is its attribute ``name``, or that of
            its class; a function's is its own.
        seed: For the stand-in model.

    Raises:
        ValueError: If there is none, two have the same name, a name cannot be stored, or one of
            them cannot be reached.
        TypeError: If one is something else.
    """
    if isinstance(models, Mapping):
        named = [(name, model) for name, model in models.items()]
    elif isinstance(models, list | tuple):
        named = [(_name_model(model), model) for model in models]
    else:
        named = [(_name_model(models), cast(ModelLike, models))]
    if not named:
        raise ValueError(f"No model is named: model={models!r}. {WAYS_OUT}")
    counts = Counter(name for name, _ in named)
    for name, _ in named:
        if problem := _find_name_problem(name, counts):
            raise ValueError(
                f"{problem} Give the models names of your own: model={{'my name': …, …}}."
            )
    return {name: resolve_model(model, seed) for name, model in named}


def _name_model(model: object) -> str:
    """What a model is called where nobody has given it a name."""
    if model is None:
        model = os.environ.get("OPTUNA_LLM_MODEL") or "model"
    if isinstance(model, str):
        return model
    name = getattr(model, "name", None) or getattr(model, "__name__", None)
    is_named = isinstance(name, str) and name.isprintable() and "<" not in name
    return str(name) if is_named else type(model).__name__


def _find_name_problem(name: object, counts: Mapping[str, int]) -> str:
    """Why a model cannot have this name; empty if it can."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        return f"A model's name must be a printable string: {name!r}."
    if len(name) > _MAX_NAME:
        return f"A model's name must have at most {_MAX_NAME} characters: {name!r}."
    if name in RESERVED_NAMES:
        return f"The name {name!r} stands for a proposer that is no model."
    return f"Two models are called {name!r}." if counts[name] > 1 else ""
