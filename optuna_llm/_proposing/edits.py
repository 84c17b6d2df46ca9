"""Whether a model may answer with edits in place of whole texts."""

from __future__ import annotations

import math
import threading
from typing import Literal
from typing import TYPE_CHECKING
from typing import TypeAlias

from optuna_llm._logging import get_logger


if TYPE_CHECKING:
    from optuna_llm._study.snapshot import StudySnapshot


Edits: TypeAlias = Literal["auto", "always", "never"]

_LONG_TEXT = 1_500
"""Length in characters above which a text may be answered with edits."""

_MAX_FAILURES = 3
"""By how many its failed edits may exceed the others before whole texts are asked for."""

_logger = get_logger(__name__)


class EditPolicy:
    """Knows how well one model does at edits; thread-safe.

    Args:
        mode: What the user has asked for.
    """

    def __init__(self, mode: Edits) -> None:
        self._mode = mode
        self._balance = 0
        self._lock = threading.Lock()

    @property
    def is_only(self) -> bool:
        """Whether texts are not to be sent whole."""
        return self._mode == "always"

    def find_editable(self, snapshot: StudySnapshot) -> frozenset[str]:
        """Names of the texts that may be answered with edits."""
        least = {"auto": _LONG_TEXT, "always": 0, "never": math.inf}[self._mode]
        return frozenset(name for name, size in snapshot.longest.items() if size > least)

    def note(self, *, is_usable: bool) -> None:
        """Learn from one more answer with edits."""
        with self._lock:
            self._balance += 1 if is_usable else -1
            if self._mode == "auto" and self._balance <= -_MAX_FAILURES:
                self._mode = "never"
                _logger.warning("The model's edits keep failing: it is asked for whole texts.")
