"""For tests of your own studies: a model that says what you tell it to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import json
from typing import TypeAlias

from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._records import ParamValue
from optuna_llm._reply.wrapping import write_literal


Reply: TypeAlias = str | Completion | Exception


class ScriptedModel:
    """A model that gives the replies of a script, in order.

    .. code-block:: python

        model = ScriptedModel([write_reply({"x": 0.5}), ModelError("down")])
        study = optuna.create_study(sampler=LLMSampler(model=model))

    Args:
        replies: What to answer with: text, a :class:`Completion` where token counts matter, or
            an exception to raise. Or a function that makes one of these of the messages; it
            never runs out.

    Attributes:
        calls: The messages of each call so far.
    """

    def __init__(self, replies: Iterable[Reply] | Callable[[Sequence[Message]], Reply]) -> None:
        self.calls: list[Sequence[Message]] = []
        self._function = replies if callable(replies) else None
        self._replies = deque(() if callable(replies) else replies)

    def complete(self, messages: Sequence[Message]) -> Completion:
        """The next reply of the script.

        Raises:
            LookupError: If the script has ended.
        """
        self.calls.append(messages)
        if self._function is not None:
            reply = self._function(messages)
        elif self._replies:
            reply = self._replies.popleft()
        else:
            raise LookupError(f"The script has no reply to call {len(self.calls)}.")
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, Completion) else Completion(reply, "scripted")


def write_reply(
    numbers: Mapping[str, ParamValue] | None = None,
    texts: Mapping[str, str] | None = None,
    rationale: str = "",
) -> str:
    """A reply in the form that a model is asked for; its texts are read to the letter."""
    lines = [f"<rationale>{rationale}</rationale>"]
    if numbers:
        lines.append(f"<numbers>{json.dumps(dict(numbers))}</numbers>")
    for name, text in (texts or {}).items():
        lines += [f'<text name="{name}">', write_literal(text), "</text>"]
    return "\n".join(lines)
