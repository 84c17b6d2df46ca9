"""The one thing that a model must be able to do."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import inspect
from typing import Any
from typing import Protocol
from typing import runtime_checkable

from optuna_llm._records import Completion
from optuna_llm._records import Message


WAYS_OUT = (
    "Three ways out: set OPENAI_API_KEY and name a model of that provider "
    '(model="…" or OPTUNA_LLM_MODEL); set OPENAI_BASE_URL to a local server, such as '
    'http://localhost:11434/v1, and name a model it has; or use model="offline", a rule-based '
    "stand-in that needs neither key nor network."
)


def takes_images(model: object) -> bool:
    """Whether a model declares that it takes images in messages."""
    return bool(getattr(model, "takes_images", False))


@runtime_checkable
class ChatModel(Protocol):
    """A model that answers messages. Called from several threads at once under ``n_jobs``.

    One that also takes images says so by an attribute ``takes_images = True``; else no message
    has any.

    One that can bind its reply to a JSON schema takes it as a keyword, ``complete(messages, *,
    schema=None)``. Models without that keyword are never given a schema.
    """

    def complete(self, messages: Sequence[Message]) -> Completion:
        """The reply to one system message and one user message.

        Raises:
            ModelError: If there is no reply, and the base sampler shall decide the numbers.
            ModelSetupError: If there will be none until somebody mends the setup.
        """
        ...


def takes_schema(model: object) -> bool:
    """Whether a model takes a JSON schema: it says so by ``accepts_schema`` or its signature."""
    declared = getattr(model, "accepts_schema", None)
    return _takes(getattr(model, "complete", None)) if declared is None else bool(declared)


class FunctionModel:
    """A plain function ``messages -> str`` as a model; what it raises, the trial raises.

    Args:
        function: The function. It gets images if it has an attribute ``takes_images`` that is
            true, and a JSON schema of the reply, where one is wanted, if it has a keyword
            ``schema``.
    """

    def __init__(self, function: Callable[..., str]) -> None:
        self._function = function
        self.takes_images = takes_images(function)
        self.accepts_schema = _takes(function)

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None
    ) -> Completion:
        """The function's answer, without token counts."""
        arguments = {} if schema is None else {"schema": schema}
        reply = self._function(messages, **arguments)
        if not isinstance(reply, str):
            raise TypeError(f"The model function must return a string, not {reply!r}.")
        return Completion(reply)


def _takes(function: object) -> bool:
    if not callable(function):
        return False
    try:
        return "schema" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # Some callables written in C have no signature.
        return False
