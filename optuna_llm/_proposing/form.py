"""Which form a model is asked to reply in, and how often a reply is sent back."""

from __future__ import annotations

import threading
from typing import Literal
from typing import TypeAlias

from optuna_llm._logging import get_logger
from optuna_llm._records import Problem


Structured: TypeAlias = Literal["auto", "always", "never"]

_MAX_FAILURES = 3
"""Replies in a row that fail at the usual form before a study of numbers asks for JSON."""

_MAX_FAILURES_WITH_TEXTS = 6
"""The same with texts, which are better outside of JSON."""

_MAX_JSON_FAILURES = 6
"""Replies in a row that fail at JSON, where none ever was usable, before that is given up."""

_FAILURES_PER_RETRY = 6
"""Replies of a model that was never usable, for each of which it is sent back once less."""

_logger = get_logger(__name__)


class FormPolicy:
    """Knows how well one model does at the form of a reply; thread-safe.

    Args:
        mode: What the user has asked for.
        takes_schema: Whether the model takes a JSON schema.
        max_retries: How often a reply that cannot be used is sent back.
    """

    def __init__(self, mode: Structured, *, takes_schema: bool, max_retries: int) -> None:
        self._mode = mode
        self._takes_schema = takes_schema
        self._max_retries = max_retries
        self._failures = 0
        self._json_failures = 0
        self._n_unusable = 0
        self._has_been_usable = False
        self._json_has_been_usable = False
        self._is_json_given_up = False
        self._is_json_asked = False
        self._has_warned = False
        self._lock = threading.Lock()

    @property
    def retries(self) -> int:
        """How often a reply is sent back: less and less if none was ever usable."""
        if self._has_been_usable:
            return self._max_retries
        return max(0, self._max_retries - self._n_unusable // _FAILURES_PER_RETRY)

    def wants_json(self, problem: Problem) -> bool:
        """Whether the next reply is asked for as JSON."""
        if self._mode != "auto":
            return self._mode == "always"
        if not self._takes_schema or self._is_json_given_up:
            return False
        with self._lock:
            most = _MAX_FAILURES_WITH_TEXTS if problem.texts else _MAX_FAILURES
            wants = self._json_has_been_usable or self._failures >= most
            if wants and not self._is_json_asked:
                self._is_json_asked = True
                _logger.warning(
                    "%d replies in a row were not in the form asked for: the model is sent a JSON "
                    "schema from now on.",
                    self._failures,
                )
        return wants

    def note_usable(self, *, is_json: bool) -> None:
        """Learn from a reply that could be read."""
        with self._lock:
            self._has_been_usable = True
            if is_json:
                self._json_failures = 0
                self._json_has_been_usable = True
            else:
                self._failures = 0

    def note_unusable(self, *, is_json: bool, is_form: bool) -> None:
        """Learn from a reply that could not be used.

        Args:
            is_json: Whether it was asked for as JSON.
            is_form: Whether there was a reply, which could not be read.
        """
        with self._lock:
            self._n_unusable += 1
            if is_form and is_json:
                self._json_failures += 1
            elif is_form:
                self._failures += 1
            is_hopeless = self._json_failures >= _MAX_JSON_FAILURES
            if self._mode == "auto" and is_hopeless and not self._json_has_been_usable:
                self._give_up_json("Replies in JSON cannot be used either")
            self._warn()

    def note_refused(self) -> None:
        """Learn that the server takes no schema: the usual form is as good then."""
        with self._lock:
            if self._mode == "auto":
                self._give_up_json("The server takes no JSON schema")

    def _give_up_json(self, reason: str) -> None:
        if not self._is_json_given_up:
            self._is_json_given_up = True
            self._failures = 0
            _logger.warning("%s: the model is asked in the usual form again.", reason)

    def _warn(self) -> None:
        """Say what to do about a model that was never usable, once it is hardly asked any more."""
        least = _FAILURES_PER_RETRY * max(2, self._max_retries)
        if self._has_been_usable or self._has_warned or self._n_unusable < least:
            return
        self._has_warned = True
        is_untried = self._mode == "never" or (self._takes_schema and not self._is_json_asked)
        ways = ["take another model", "show it a whole reply as an example in the task"]
        if is_untried and self._takes_schema:
            ways.insert(1, 'set structured="always", which sends its server a JSON schema')
        _logger.warning(
            "None of the model's %d replies could be used: from now on it is asked once a trial. "
            "What may help: %s.",
            self._n_unusable,
            "; ".join(ways),
        )
