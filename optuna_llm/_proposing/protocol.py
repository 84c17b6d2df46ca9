"""What anybody must be able to do who proposes trials."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Protocol
from typing import TypeAlias

from optuna_llm._outcomes import Outcome
from optuna_llm._prompt.request import Request
from optuna_llm._records import Proposal
from optuna_llm._study.snapshot import StudySnapshot


Accept: TypeAlias = Callable[[Outcome, Sequence[Proposal]], None]
"""Takes an outcome whose proposal is to be used, and what the same reply has proposed before it.

Raises a :class:`ReplyError` if the proposal cannot be used, such as a duplicate.
"""


class Proposer(Protocol):
    """Decides a trial's values: a model, or whatever else can."""

    def propose(self, snapshot: StudySnapshot, request: Request, accept: Accept) -> Outcome:
        """An accepted proposal, or why there is none.

        Args:
            snapshot: The study.
            request: What is asked for.
            accept: Accepts the proposal, or refuses it with the reason.
        """
        ...
