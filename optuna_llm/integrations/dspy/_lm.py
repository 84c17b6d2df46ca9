"""DSPy's language models: what they spend, how they fail, and one as the model that proposes."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dspy
from dspy.utils import exceptions as faults

from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._records import Usage
from optuna_llm._study.checks import is_count


_SETUP = (
    faults.LMAuthError,
    faults.LMBillingError,
    faults.LMConfigurationError,
    faults.LMUnsupportedModelError,
)

_SENT = {
    "extra_body",
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "presence_penalty",
    "reasoning_effort",
    "seed",
    "service_tier",
    "stop",
    "temperature",
    "top_k",
    "top_p",
}
"""What of a language model's configuration is part of each request."""


class LMModel:
    """A ``dspy.LM`` as the model that proposes.

    Args:
        lm: The language model.
    """

    def __init__(self, lm: dspy.LM) -> None:
        self.lm = lm
        self.name = str(lm.model)

    def complete(self, messages: Sequence[Message]) -> Completion:
        """The reply to one system message and one user message.

        Raises:
            ModelError: If there is none.
        """
        # A request is sent as it is: what the language model was configured with belongs into it.
        set_here = {n: value for n, value in self.lm.kwargs.items() if value is not None}
        settings = {name: value for name, value in set_here.items() if name in _SENT}
        told = [{"role": message.role, "content": message.content} for message in messages]
        request = dspy.lm15.request_from_openai_chat(
            {"model": self.lm.model, "messages": told, **settings}
        )
        with dspy.track_usage() as tracker:
            try:
                response = self.lm(request)
            except faults.LMInvalidRequestError as error:
                if isinstance(error, faults.ContextWindowExceededError):
                    raise ContextLengthError(str(error)) from error
                raise ModelSetupError(str(error)) from error
            except faults.LMError as error:
                raise translate(error) from error
        spent = sum(read_spent(tracker.usage_data).values(), Usage())
        return Completion(
            response.text or "",
            response.model,
            replace(spent, calls=0),
            is_cut=response.finish_reason == "length",
        )


def translate(error: faults.LMError) -> ModelError:
    """An error of a language model, as this package's."""
    kind = ModelSetupError if isinstance(error, _SETUP) else ModelError
    return kind(f"{type(error).__name__}: {error}")


def read_spent(tracked: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, Usage]:
    """What each language model has spent, by its name; replies from DSPy's cache are none.

    Args:
        tracked: By name, what DSPy has taken down of each call.
    """
    return {name: sum(map(_read_call, calls), Usage()) for name, calls in tracked.items()}


def _read_call(told: Mapping[str, Any]) -> Usage:
    sent = told.get("prompt_tokens_details") or told.get("input_tokens_details")
    received = told.get("completion_tokens_details") or told.get("output_tokens_details")
    return Usage(
        prompt_tokens=_find_count(told, "prompt_tokens", "input_tokens"),
        cached_tokens=_find_count(sent, "cached_tokens"),
        completion_tokens=_find_count(told, "completion_tokens", "output_tokens"),
        reasoning_tokens=_find_count(received, "reasoning_tokens"),
        calls=1,
    )


def _find_count(told: object, *names: str) -> int:
    """The first of some counts that a server has told; 0 if it has told none."""
    if not isinstance(told, Mapping):
        return 0
    return next((told[name] for name in names if is_count(told.get(name))), 0)
