"""Proposals that a process has asked for ahead of the trials that will use them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
import threading
from typing import TypeAlias

from optuna_llm._cancellation import Cancellation
from optuna_llm._cancellation import current
from optuna_llm._cancellation import start_thread
from optuna_llm._logging import get_logger
from optuna_llm._proposing.exchanges import Answer
from optuna_llm._records import Proposal
from optuna_llm._records import Usage


_logger = get_logger(__name__)

_Ask: TypeAlias = Callable[[], Answer]

IDLE_SECONDS = 5.0
"""For how long no trial may run here before what is being asked for is called off."""


class Pool:
    """Proposals for the next trials of one study, asked for in threads of its own.

    No call is made that nobody has a use for: there are as many under way as trials wait for
    and are to be had ahead. Once no trial has run here for a while, they are called off.

    Args:
        ahead: How many proposals are to be at hand beside those that trials wait for.
        per_call: How many proposals a call is to bring.
        max_calls: How many calls may be under way at once; None for any number.
    """

    def __init__(self, ahead: int, per_call: int, max_calls: int | None) -> None:
        self._ahead = ahead
        self._per_call = per_call
        self._max_calls = max_calls
        self._ready: deque[Answer | Exception] = deque()
        self._calls: set[Cancellation] = set()
        self._n_waiting = 0
        self._unpaid = Usage()
        self._trials: set[int] = set()
        self._timer: threading.Timer | None = None
        self._changed = threading.Condition()

    @property
    def is_used(self) -> bool:
        """Whether trials are to take their proposals from here."""
        return self._ahead > 0 or self._per_call > 1

    @property
    def proposals(self) -> list[Proposal]:
        """What is at hand."""
        with self._changed:
            outcomes = [answer.outcome for answer in self._ready if isinstance(answer, Answer)]
        return [outcome for outcome in outcomes if isinstance(outcome, Proposal)]

    @property
    def n_waiting(self) -> int:
        """How many trials wait for a proposal."""
        return self._n_waiting

    def take(self, ask: _Ask) -> Answer:
        """The next answer: one that is at hand, or else what a call brings.

        Args:
            ask: Makes a call. May be used in several threads at once, and again later.

        Raises:
            Exception: What ``ask`` raises.
        """
        with self._changed:
            self._n_waiting += 1
            try:
                while not self._ready:
                    self._start_calls(ask, self._n_waiting)
                    self._changed.wait()
                answer = self._ready.popleft()
            finally:
                self._n_waiting -= 1
            if isinstance(answer, Exception):
                raise answer
            answer = replace(answer, usage=answer.usage + self._unpaid)
            self._unpaid = Usage()
        return answer

    def drop(self, answer: Answer) -> None:
        """Give back an answer that cannot be used; the next one pays for it."""
        with self._changed:
            self._unpaid += answer.usage

    def fill(self, ask: _Ask) -> None:
        """Have as many proposals asked for as are to be at hand."""
        with self._changed:
            self._start_calls(ask, self._n_waiting + self._ahead)

    def enter(self, trial: int) -> None:
        """A trial runs here."""
        with self._changed:
            self._trials.add(trial)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def leave(self, trial: int, is_last: bool) -> None:
        """A trial has ended.

        Args:
            trial: Its number.
            is_last: Whether no other will begin after those that run.
        """
        with self._changed:
            self._trials.discard(trial)
            if self._trials or not self._calls:
                return
            if not is_last:
                self._timer = threading.Timer(IDLE_SECONDS, self._call_off)
                self._timer.daemon = True
                self._timer.start()
                return
        self._call_off()

    def _call_off(self) -> None:
        with self._changed:
            if self._trials:
                return  # One has begun while the timer went off.
            calls, self._calls = self._calls, set()
        for call in calls:
            call.cancel()

    def _start_calls(self, ask: _Ask, wanted: int) -> None:
        """Make the calls that it takes to have so many proposals, with the lock held."""
        limit = self._max_calls or wanted
        while (
            len(self._ready) + len(self._calls) * self._per_call < wanted
            and len(self._calls) < limit
        ):
            self._calls.add(start_thread(lambda: self._run(ask)))

    def _run(self, ask: _Ask) -> None:
        """One call and what it brings, in a thread of its own."""
        answers: list[Answer] | list[Exception]
        try:
            answers = ask().split()
        except Exception as error:  # noqa: BLE001 - raised again by the trial that takes it
            answers = [error]
        with self._changed:
            if current().is_cancelled:
                return
            self._calls.remove(current())
            for answer in answers:
                if _is_usable(answer) or self._n_waiting > len(self._ready):
                    self._ready.append(answer)
                else:
                    self._pass_over(answer)
            # A trial that waits takes its own first, and has the rest made in the knowledge of it.
            if any(map(_is_usable, answers)) and not self._n_waiting:
                self._start_calls(ask, self._ahead)
            self._changed.notify_all()

    def _pass_over(self, answer: Answer | Exception) -> None:
        """Note a failure that no trial waits for: the next to come will ask anew."""
        error = answer.outcome if isinstance(answer, Answer) else answer
        _logger.warning("Asking ahead came to nothing: %s", error)
        if isinstance(answer, Answer):
            self._unpaid += answer.usage


def _is_usable(answer: Answer | Exception) -> bool:
    return isinstance(answer, Answer) and isinstance(answer.outcome, Proposal)
