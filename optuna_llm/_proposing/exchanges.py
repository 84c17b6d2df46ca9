"""What asking a model came to, and a log of it: a line of JSON for each call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from datetime import datetime
from datetime import timezone
import json
import os
from pathlib import Path

from optuna_llm._errors import LLMError
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._records import Proposal
from optuna_llm._records import Usage


LOG_VARIABLE = "OPTUNA_LLM_LOG"


@dataclass(frozen=True)
class Answer:
    """What asking a model came to, in one call or in several.

    Attributes:
        messages: What was sent last.
        outcome: The proposal, or why there is none.
        completion: The last reply; None if there was none.
        usage: What all calls for it cost.
        model: The model's name as the server reports it.
        parent: Number of the trial whose texts it was to start from.
        others: Further proposals of the same reply.
    """

    messages: Sequence[Message]
    outcome: Proposal | LLMError
    completion: Completion | None
    usage: Usage
    model: str | None = None
    parent: int | None = None
    others: Sequence[Proposal] = ()

    def split(self) -> list[Answer]:
        """An answer for each proposal; the first of them pays for all."""
        return [
            replace(self, others=()),
            *(replace(self, outcome=p, usage=Usage(), others=()) for p in self.others),
        ]


def log_exchange(path: Path | None, trial: int, answer: Answer) -> None:
    """Append one line, whole even if many processes write to the file.

    Args:
        path: The file; None writes nothing.
        trial: Number of the trial that was asked for.
        answer: What this one call came to.
    """
    if path is None:
        return
    usable = isinstance(answer.outcome, Proposal)
    line = json.dumps(
        {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "trial": trial,
            "messages": [vars(message) for message in answer.messages],
            "reply": None if answer.completion is None else answer.completion.text,
            "model": answer.model,
            "usage": vars(answer.usage),
            "seconds": round(answer.usage.seconds, 3),
            "outcome": "proposal" if usable else str(answer.outcome),
        }
    )
    # One write to a file opened for appending is not torn apart by those of others.
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode() + b"\n")
    finally:
        os.close(file)
