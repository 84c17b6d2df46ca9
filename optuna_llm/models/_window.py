"""Noticing a server that cuts prompts without a word."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_llm._records import Message
from optuna_llm._records import Usage


# Text with long runs of one character reaches eight characters a token, no prose or code ten.
_MOST_CHARACTERS_PER_TOKEN = 10.0
# The prompts of one study are alike: so much above the lowest ratio is no chance.
_MOST_GROWTH = 1.5
_LEAST_CHARACTERS = 6_000


class PromptWindow:
    """Compares the prompt tokens that a server counts with the characters it was sent."""

    def __init__(self) -> None:
        self._lowest = _MOST_CHARACTERS_PER_TOKEN / _MOST_GROWTH
        self._has_warned = False

    def check(self, messages: Sequence[Message], usage: Usage) -> str | None:
        """What to warn of, the first time that a prompt seems to have been cut; else None."""
        n_characters = sum(len(message.content) for message in messages)
        if any(message.images for message in messages):
            return None  # How many tokens an image takes is the server's secret.
        n_tokens = usage.prompt_tokens
        if usage.cached_tokens > n_tokens:
            n_tokens += usage.cached_tokens  # Some count only what was not cached.
        if self._has_warned or n_tokens == 0 or n_characters < _LEAST_CHARACTERS:
            return None
        ratio = n_characters / n_tokens
        if ratio <= self._lowest * _MOST_GROWTH:
            self._lowest = min(self._lowest, ratio)
            return None
        self._has_warned = True
        return (
            f"counted {n_tokens:,} prompt tokens where about {n_characters // 4:,} were sent: it "
            "seems to have truncated the prompt silently. Give the model a larger context window "
            "(Ollama: OLLAMA_CONTEXT_LENGTH or num_ctx; LM Studio: its context length; "
            f"llama.cpp: --ctx-size), or set max_prompt_tokens below {n_tokens:,}."
        )
