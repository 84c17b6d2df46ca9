"""A log of the calls to a model: a line of JSON for each."""

from __future__ import annotations

from datetime import datetime
from datetime import timezone
import json
from pathlib import Path

from optuna_llm._lines import append_line
from optuna_llm._logging import get_logger
from optuna_llm._outcomes import Outcome
from optuna_llm._records import Proposal


_logger = get_logger(__name__)

LOG_VARIABLE = "OPTUNA_LLM_LOG"


class CallLog:
    """Appends calls to a file; lines stay whole even if many processes write to it.

    A file that cannot be written to is reported once: no reply that was paid for is lost by it.

    Args:
        path: The file; None writes nothing.
        study: The study's name: studies may share a file.
    """

    def __init__(self, path: Path | None, study: str) -> None:
        self._path = path
        self._study = study
        self._has_failed = False

    def append(self, trial: int, outcome: Outcome) -> None:
        """Log one call.

        Args:
            trial: Number of the trial that was asked for.
            outcome: What came of this one call.
        """
        if self._path is None:
            return
        try:
            append_line(self._path, self._describe(trial, outcome))
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _logger.warning("Calls cannot be logged to %s: %s", self._path, error)

    def _describe(self, trial: int, outcome: Outcome) -> str:
        is_usable = isinstance(outcome.result, Proposal)
        return json.dumps(
            {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "trial": trial,
                "study": self._study,
                "messages": [message.to_log() for message in outcome.messages],
                "reply": None if outcome.completion is None else outcome.completion.text,
                "model": outcome.model,
                "usage": vars(outcome.usage),
                "seconds": round(outcome.usage.seconds, 3),
                "outcome": "proposal" if is_usable else str(outcome.result),
            }
        )
