"""What comes of asking a proposer for a trial's values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Literal

from optuna_llm._errors import LLMError
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._records import Proposal
from optuna_llm._records import Source
from optuna_llm._records import Usage


@dataclass(frozen=True)
class Pass:
    """The model sees nothing to gain, and leaves the trial to others.

    Attributes:
        reason: Why, in its words.
    """

    reason: str


EVALUATION = "evaluation"
"""In the place of a proposer: a model that the objective asks, such as a judge."""


@dataclass(frozen=True)
class Attempt:
    """What it cost to ask a model for a trial whose values it did not decide.

    Attributes:
        proposer: The model's configured name; empty where a call was cancelled; ``EVALUATION``
            where the objective asked it.
        result: Whether it failed, saw nothing to gain, had a proposal that was not used, or was
            asked by the objective.
        usage: The cost.
        model: The model's name, as its server reports it.
    """

    proposer: str
    result: Literal["failed", "passed", "unused", "evaluated"]
    usage: Usage = field(default_factory=Usage)
    model: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of asking a proposer for a trial's values, in one call to a model or in several.

    Attributes:
        result: The proposal, or why there is none.
        source: Who decided the values.
        usage: What all calls for it cost, those of ``attempts`` aside.
        proposer: The proposer's name: a model's as it is configured, or ``"base"``.
        attempts: What was asked before in vain.
        messages: What was sent last; empty where no model was asked.
        completion: The last reply; None if there was none.
        model: The model's name, as its server reports it.
        parent: Number of the trial whose texts it was to start from.
        second_parent: Number of a trial that it was to take over from beside it.
        error: Why the proposal of a model was not used, where another proposer stood in.
        others: Further proposals of the same reply.
        insights: What the model has learned from the trials so far, where it was asked.
    """

    result: Proposal | Pass | LLMError
    source: Source = "model"
    usage: Usage = field(default_factory=Usage)
    proposer: str | None = None
    attempts: Sequence[Attempt] = ()
    messages: Sequence[Message] = ()
    completion: Completion | None = None
    model: str | None = None
    parent: int | None = None
    second_parent: int | None = None
    error: str = ""
    others: Sequence[Proposal] = ()
    insights: Sequence[str] = ()

    @property
    def total_usage(self) -> Usage:
        """What all calls cost, those in vain included."""
        return sum((attempt.usage for attempt in self.attempts), self.usage)

    def list_attempts(self) -> tuple[Attempt, ...]:
        """All that was asked in vain, this proposer included."""
        is_pass, is_used = isinstance(self.result, Pass), isinstance(self.result, Proposal)
        result: Literal["failed", "passed", "unused"]
        result = "passed" if is_pass else "unused" if is_used else "failed"
        own = Attempt(self.proposer or "", result, self.usage, self.model)
        return (*self.attempts, own)

    def find_parent(self) -> int | None:
        """Number of the trial that the proposed texts come from; None without texts."""
        if not isinstance(self.result, Proposal) or not self.result.texts:
            return None
        if self.result.repeats is not None:
            return self.result.repeats
        return self.parent if self.result.parent is None else self.result.parent

    def find_second_parent(self) -> int | None:
        """Number of the other trial that the model was shown to make the texts of."""
        shown = (self.parent, self.second_parent)
        parent = self.find_parent()
        # If it edited the text of the second, the first stands beside it.
        if parent is None or self.second_parent is None or parent not in shown:
            return None
        return shown[1 - shown.index(parent)]

    def split(self) -> list[Outcome]:
        """An outcome for each proposal; the first of them bears the whole cost."""
        return [
            replace(self, others=()),
            *(
                replace(self, result=other, usage=Usage(), attempts=(), insights=(), others=())
                for other in self.others
            ),
        ]
