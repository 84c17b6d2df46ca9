"""The threads of a process take turns in a model's tokens, so that its server refuses none."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
from dataclasses import dataclass
from dataclasses import field
import functools
import itertools
import math
import threading
import time

from optuna_llm import _cancellation
from optuna_llm._processes import current_process
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm.models._allowance import read_allowances
from optuna_llm.models._circumstances import find_circumstances
from optuna_llm.models._deadline import CancelledError
from optuna_llm.models._faults import TransientError
from optuna_llm.models._faults import UnreachableError
from optuna_llm.models._rate import Allowance
from optuna_llm.models._rate import Spent
from optuna_llm.models._rate import TokenWindow


CHARACTERS_PER_IMAGE = 4_000
"""How much text takes the room of an image: servers count about a thousand tokens for one."""

_CHARACTERS_PER_TOKEN = 4.0
_REPLY_TOKENS = 1_000.0
# How much of what calls take is learned from one of them.
_LEARNED = 0.2
_SPREADS = 2.0
# By how many mean distances from the mean a reply is thought to be longer, as TCP does it for the
# time of a round trip: the many that are in flight are known to the server first.
_LONGEST_LOOK = 0.25
# Room can appear earlier than was foreseen: when replies are short, or others give up.


class TokenEstimate:
    """Foresees what a call takes, from what calls before it have taken.

    Args:
        max_reply: Tokens that a reply may have at most.
    """

    def __init__(self, max_reply: float = math.inf) -> None:
        self._per_character = 1 / _CHARACTERS_PER_TOKEN
        self._reply = min(_REPLY_TOKENS, max_reply)
        self._spread = 0.0
        self._max_reply = max_reply
        self._is_first = True

    def foresee(self, messages: Sequence[Message]) -> tuple[float, float]:
        """Tokens of the messages, and of the reply to them at most in all likelihood."""
        reply = min(self._reply + _SPREADS * self._spread, self._max_reply)
        return _count_characters(messages) * self._per_character, reply

    def learn(self, messages: Sequence[Message], completion: Completion) -> tuple[float, float]:
        """Tokens that the messages and the reply have taken, which later calls are judged by."""
        foreseen, _ = self.foresee(messages)
        usage = completion.usage
        sent = usage.prompt_tokens or foreseen
        received = usage.completion_tokens or max(
            1.0, len(completion.text) / _CHARACTERS_PER_TOKEN
        )
        weight = 1.0 if self._is_first else _LEARNED
        characters = max(1, _count_characters(messages))
        self._per_character += weight * (sent / characters - self._per_character)
        distance = received / 2 if self._is_first else abs(received - self._reply)
        self._spread += weight * (distance - self._spread)
        self._reply += weight * (received - self._reply)
        self._is_first = False
        return sent, received


@dataclass
class Slot:
    """A call that may be sent now.

    Attributes:
        waited: Seconds that it had to wait.
        headers: Those of the response, by their names in lower case; to be set once it is there.
        completion: The reply; to be set once it is there.
    """

    waited: float
    headers: Mapping[str, str] = field(default_factory=dict)
    completion: Completion | None = None


class RateLimiter:
    """Lets the calls to one model through as fast as its rate limits allow; thread-safe.

    Each call enters :meth:`slot`, in which it is sent. Whoever came first goes first.

    Args:
        max_tokens_per_minute: Tokens of prompts and replies in any minute; None for no limit but
            those that the server tells of.
        max_reply: Tokens that a reply may have at most.
    """

    def __init__(self, max_tokens_per_minute: float | None, max_reply: float = math.inf) -> None:
        self._limit = max_tokens_per_minute or math.inf
        self._max_reply = max_reply
        self._begin()

    def _begin(self) -> None:
        """Know nothing of any call yet."""
        self._process = current_process()
        self._window = TokenWindow(self._limit)
        self._estimate = TokenEstimate(self._max_reply)
        self._allowances: dict[str, Allowance] = {}
        self._queue: dict[object, float] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def slot(self, messages: Sequence[Message], who: str) -> Iterator[Slot]:
        """Wait until a call may be sent; what becomes of it is told to the slot.

        Args:
            messages: What is sent.
            who: The server's name, for messages.

        Raises:
            CancelledError: If the call is no longer wanted.
            TransientError: If another model is to be asked rather than to wait so long.
        """
        if self._process != current_process():
            self._begin()  # In a forked child, a lock of the parent's may never be released.
        with self._lock:
            sent, received = self._estimate.foresee(messages)
        began = time.monotonic()
        spent = self._wait(sent + received, began + find_circumstances().patience, who)
        slot = Slot(spent.at - began)
        try:
            yield slot
        except UnreachableError:
            sent = 0.0  # Nobody has counted it.
            raise
        finally:
            with self._lock:
                received = 0.0
                if slot.completion is not None:
                    sent, received = self._estimate.learn(messages, slot.completion)
                now = time.monotonic()
                self._window.settle(spent, now, sent, received)
                self._hear(slot.headers, spent, now)

    def _wait(self, tokens: float, deadline: float, who: str) -> Spent:
        cancellation = _cancellation.current()
        ticket = object()
        try:
            while True:
                with self._lock:
                    now = time.monotonic()
                    delay = self._find_delay(ticket, tokens, now)
                    if delay <= 0:
                        return self._window.add(now, tokens)
                    self._queue[ticket] = tokens
                if now + delay > deadline:
                    raise TransientError(
                        f"{who}: its rate limit leaves no room for a call for {delay:.1f} seconds."
                    )
                cancellation.wait(min(delay, _LONGEST_LOOK))
                if cancellation.is_cancelled:
                    raise CancelledError("The call was cancelled.")
        finally:
            with self._lock:
                self._queue.pop(ticket, None)

    def _find_delay(self, ticket: object, tokens: float, now: float) -> float:
        """Seconds until there is room for a call and for those that came before it."""
        ahead = list(itertools.takewhile(lambda other: other is not ticket, self._queue))
        tokens_ahead = sum(map(self._queue.__getitem__, ahead))
        delays = [self._window.find_delay(now, tokens, tokens_ahead)]
        needs = {"tokens": tokens + tokens_ahead, "requests": 1.0 + len(ahead)}
        for kind, allowance in self._allowances.items():
            count = functools.partial(self._count_since, kind)
            delays.append(allowance.find_delay(now, needs[kind], count))
        return max(delays)

    def _count_since(self, kind: str, time: float) -> float:
        spent = self._window.count_since(time)
        return spent.tokens if kind == "tokens" else spent.requests

    def _hear(self, headers: Mapping[str, str], spent: Spent, told_at: float) -> None:
        """Note what a response tells of the limits, unless a later request has told already."""
        for kind, allowance in read_allowances(headers, spent.at, told_at, spent.tokens):
            known = self._allowances.get(kind)
            if known is None or known.asked_at <= spent.at:
                self._allowances[kind] = allowance


def _count_characters(messages: Sequence[Message]) -> int:
    n_images = sum(len(message.images) for message in messages)
    return n_images * CHARACTERS_PER_IMAGE + sum(len(message.content) for message in messages)
