"""Proposals that a process asks for ahead of the trials that will use them."""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import replace
import threading
import time
from typing import TypeAlias
from weakref import WeakSet

from optuna_llm._cancellation import Cancellation
from optuna_llm._cancellation import current
from optuna_llm._cancellation import LOOK_SECONDS
from optuna_llm._cancellation import start_thread
from optuna_llm._logging import get_logger
from optuna_llm._outcomes import Attempt
from optuna_llm._outcomes import Outcome
from optuna_llm._records import Proposal
from optuna_llm._records import Usage


_logger = get_logger(__name__)

_Ask: TypeAlias = Callable[[], Outcome]
Settle: TypeAlias = Callable[[Mapping[str, Usage]], None]
"""Stores what calls have cost that no trial has paid for, by model."""

IDLE_SECONDS = 5.0
"""How long no trial may run here before the calls in flight are cancelled."""


class Prefetcher:
    """Asks for the next trials' proposals of one study in background threads of its own.

    No call is made that nobody has a use for: as many are in flight as trials wait for and are to
    be had ahead. What no trial has paid for yet, the next one pays.

    Args:
        ahead: How many proposals are to be ready beside those that trials wait for.
        per_call: How many proposals a call is to bring.
        max_calls: How many calls may be in flight at once; None for any number.
    """

    def __init__(self, ahead: int, per_call: int, max_calls: int | None) -> None:
        self._ahead = ahead
        self._per_call = per_call
        self._max_calls = max_calls
        self._ready: deque[Outcome | BaseException] = deque()
        self._calls: dict[Cancellation, float] = {}
        self._n_waiting = 0
        self._unpaid: list[Attempt] = []
        self._settled: Mapping[str, Usage] = {}
        self._trials: set[int] = set()
        # Trials that take nothing end here without having begun here.
        self._n_begun_or_ended = 0
        self._idle: threading.Timer | None = None
        self._settle: Settle | None = None
        self._changed = threading.Condition()
        _prefetchers.add(self)

    @property
    def is_used(self) -> bool:
        """Whether trials are to take their proposals from here."""
        return self._ahead > 0 or self._per_call > 1

    @property
    def proposals(self) -> list[Proposal]:
        """The proposals that are ready."""
        with self._changed:
            results = [o.result for o in self._ready if isinstance(o, Outcome)]
        return [result for result in results if isinstance(result, Proposal)]

    @property
    def n_waiting(self) -> int:
        """How many trials wait for a proposal."""
        return self._n_waiting

    def take(self, ask: _Ask) -> Outcome:
        """The next outcome: one that is ready, or else what a call brings.

        Args:
            ask: Makes a call. May be used in several threads at once, and again later.

        Raises:
            BaseException: What ``ask`` raises.
        """
        with self._changed:
            self._n_waiting += 1
            try:
                while not self._ready:
                    self._start_calls(ask, self._n_waiting)
                    self._changed.wait(LOOK_SECONDS)
                outcome = self._ready.popleft()
            finally:
                self._n_waiting -= 1
            if isinstance(outcome, BaseException):
                raise outcome
            unpaid, self._unpaid = self._unpaid, []
            return replace(outcome, attempts=(*outcome.attempts, *unpaid))

    def drop(self, outcome: Outcome) -> None:
        """Give back an outcome that cannot be used; the next one pays for it."""
        with self._changed:
            _merge(self._unpaid, outcome.list_attempts())

    def fill(self, ask: _Ask) -> None:
        """Ask for as many proposals as are to be ready, from the second trial on.

        Nothing tells whether another trial follows a first one. Some engines unpickle the sampler
        for each trial, and would throw away whatever was made ahead.
        """
        with self._changed:
            if self._n_begun_or_ended > 1:
                self._start_calls(ask, self._n_waiting + self._ahead)

    def enter(self, trial: int) -> None:
        """A trial begins to run here."""
        with self._changed:
            self._trials.add(trial)
            self._n_begun_or_ended += 1
            self._stop_timer()

    def leave(self, trial: int, *, is_last: bool, settle: Settle) -> None:
        """A trial has ended. Once none has run for a while, this is closed.

        Args:
            trial: Its number.
            is_last: Whether no other will begin after those that run.
            settle: Stores what :meth:`close` hands back, when it is.
        """
        with self._changed:
            self._trials.discard(trial)
            self._n_begun_or_ended += 1
            if self._trials or not (self._calls or self._ready or self._unpaid or self._settled):
                return
            self._stop_timer()
            self._settle = settle
            if not is_last:
                self._idle = threading.Timer(IDLE_SECONDS, self.finish)
                self._idle.name = "optuna_llm.idle"
                self._idle.daemon = True
                self._idle.start()
                return
        self._close_and_settle()

    def finish(self) -> None:
        """Close now what was to be closed once no trial has run for a while."""
        try:
            self._close_and_settle()
        except Exception as error:  # noqa: BLE001 - there is nobody left to raise it to
            _logger.warning("What unused proposals have cost could not be stored: %s", error)

    def _close_and_settle(self) -> None:
        with self._changed:
            settle, self._settle = self._settle, None
            self._stop_timer()
            if settle is None:
                return  # A trial has begun while the timer went off.
            calls, unclaimed = self._detach()
        for call in calls:
            call.cancel()
        if unclaimed != self._settled:
            settle(unclaimed)
            self._settled = unclaimed

    def _stop_timer(self) -> None:
        """Begin to wait anew for a while without trials, with the lock held."""
        self._settle = None if self._trials else self._settle
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def close(self) -> Mapping[str, Usage]:
        """Cancel the calls in flight; what is ready stays so.

        Returns:
            What no trial has paid for, by model: calls that were cancelled, whose tokens nobody
            knows, and proposals that no trial has taken. If one does later, this is less.
        """
        with self._changed:
            calls, unclaimed = self._detach()
        for call in calls:
            call.cancel()
        return unclaimed

    def _detach(self) -> tuple[list[Cancellation], Mapping[str, Usage]]:
        """The calls in flight, no longer ours, and what is unclaimed; with the lock held."""
        calls, self._calls = self._calls, {}
        for began in calls.values():
            seconds = time.monotonic() - began
            _merge(self._unpaid, [Attempt("", "unused", Usage(calls=1, seconds=seconds))])
        ready = [outcome for outcome in self._ready if isinstance(outcome, Outcome)]
        attempts = [attempt for outcome in ready for attempt in outcome.list_attempts()]
        unclaimed: dict[str, Usage] = {}
        for attempt in [*self._unpaid, *attempts]:
            model = attempt.model or ""
            unclaimed[model] = unclaimed.get(model, Usage()) + attempt.usage
        # A trial that waits makes new calls.
        self._changed.notify_all()
        return list(calls), unclaimed

    def _start_calls(self, ask: _Ask, wanted: int) -> None:
        """Make the calls that it takes to have so many proposals, with the lock held."""
        limit = self._max_calls or wanted
        while (
            len(self._ready) + len(self._calls) * self._per_call < wanted
            and len(self._calls) < limit
        ):
            self._calls[start_thread(lambda: self._run(ask))] = time.monotonic()

    def _run(self, ask: _Ask) -> None:
        """One call and what it brings, in a thread of its own."""
        outcomes: list[Outcome] | list[BaseException]
        try:
            outcomes = ask().split()
        except BaseException as error:  # noqa: BLE001 - raised again by the trial that takes it
            outcomes = [error]
        with self._changed:
            if self._calls.pop(current(), None) is None:
                return  # Cancelled: it was counted when it was.
            for outcome in outcomes:
                if _is_usable(outcome) or self._n_waiting > len(self._ready):
                    self._ready.append(outcome)
                else:
                    self._pass_over(outcome)
            # A trial that waits takes its own first; the rest is asked for in the light of it.
            if any(map(_is_usable, outcomes)) and not self._n_waiting:
                self._start_calls(ask, self._ahead)
            self._changed.notify_all()

    def _pass_over(self, outcome: Outcome | BaseException) -> None:
        """Note a failure that no trial waits for: the next trial will ask anew."""
        error = outcome.result if isinstance(outcome, Outcome) else outcome
        _logger.warning("A proposal could not be made ahead: %s", error)
        if isinstance(outcome, Outcome):
            _merge(self._unpaid, outcome.list_attempts())


def _merge(unpaid: list[Attempt], attempts: Iterable[Attempt]) -> None:
    """Add what the next trial pays, to one entry where only the amount differs."""
    for new in attempts:
        for i, held in enumerate(unpaid):
            if replace(held, usage=new.usage) == new:
                unpaid[i] = replace(held, usage=held.usage + new.usage)
                break
        else:
            if new.usage.calls:
                unpaid.append(new)


def _is_usable(outcome: Outcome | BaseException) -> bool:
    return isinstance(outcome, Outcome) and isinstance(outcome.result, Proposal)


_prefetchers: WeakSet[Prefetcher] = WeakSet()


@atexit.register
def _finish_all() -> None:
    for prefetcher in list(_prefetchers):
        prefetcher.finish()
