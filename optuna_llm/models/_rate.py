"""How many tokens may be sent when: arithmetic over times that are given; nothing here waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
import math


MINUTE = 60.0
"""Seconds that a limit is for."""

_SLACK = 1.02
# Requests arrive at the server in other intervals than those in which they were sent: tokens are
# counted for a little longer than the server counts them.

_BURST = 0.25
# The share of a minute's tokens that may be sent at once. More would leave every worker waiting
# for the rest of the minute, and some servers enforce a limit in parts of a minute.

_MOMENT = 1 / 60
# Of a minute: by how much requests can overtake each other on their way.


@dataclass
class Spent:
    """Tokens of one request, or of its reply.

    Attributes:
        at: When they were spent.
        tokens: How many; an estimate until the reply is there.
        requests: 1 for a request, 0 for a reply.
    """

    at: float
    tokens: float
    requests: int = 1


class TokenWindow:
    """The tokens of the last minute, of which there may be so many at most.

    Within the limit they are spread: a part of the minute's tokens may be sent at once, the rest
    at an even pace. So no minute holds more than the limit, wherever it begins, which suits
    servers that count in a sliding window, by the clock's minutes or with a bucket that refills.

    Args:
        limit: Tokens per minute; infinite for a window that only counts.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self._limit = limit
        self._spent: deque[Spent] = deque()
        self._total = 0.0
        # When all that was spent would be, had it been spent at an even pace.
        self._paid_until = -math.inf
        self._is_measured = False

    def find_delay(self, now: float, tokens: float, ahead: float = 0.0) -> float:
        """Seconds until a request may be sent; 0 for at once.

        Args:
            now: The time.
            tokens: Tokens of the request and its reply. Above the limit, it needs a minute of
                its own.
            ahead: Tokens of the requests that are to be sent before.
        """
        if self._limit == math.inf:
            return 0.0
        self._forget(now)
        # Until a reply has told what one takes, no more than may be sent at once.
        limit = self._limit if self._is_measured else self._limit * _BURST
        need = ahead + tokens
        room = limit - self._total
        delay = 0.0
        if need > room and self._spent:
            delay = self._find_expiry(min(need, limit) - room) - now
        if ahead and need > limit:
            delay = max(delay, MINUTE * (need - limit) / self._limit)
        paced = max(self._paid_until, now) + MINUTE * (ahead / self._limit - _BURST) - now
        return max(0.0, delay, paced)

    def add(self, now: float, tokens: float) -> Spent:
        """Count a request that is sent now, by what it will probably take."""
        return self._append(Spent(now, tokens))

    def settle(self, spent: Spent, now: float, sent: float, received: float) -> None:
        """Replace an estimate by what request and reply have taken.

        Args:
            spent: The request.
            now: When the reply ended: only then does a server know its tokens.
            sent: Tokens of the request.
            received: Tokens of the reply.
        """
        self._forget(now)
        change = sent - spent.tokens
        if spent.at > now - MINUTE * _SLACK:
            self._total += change
        spent.tokens = sent
        self._paid_until += MINUTE * change / self._limit
        if received:
            self._is_measured = True
            self._append(Spent(now, received, requests=0))

    def count_since(self, time: float) -> Spent:
        """What has been spent after a time, of the last minute."""
        found = [spent for spent in self._spent if spent.at > time]
        return Spent(time, sum(s.tokens for s in found), sum(s.requests for s in found))

    def _append(self, spent: Spent) -> Spent:
        self._spent.append(spent)
        self._total += spent.tokens
        paid = max(self._paid_until, spent.at)
        self._paid_until = paid + MINUTE * spent.tokens / self._limit
        return spent

    def _find_expiry(self, excess: float) -> float:
        """When so many tokens will have left the window."""
        for spent in self._spent:
            excess -= spent.tokens
            if excess <= 0:
                break
        return spent.at + MINUTE * _SLACK

    def _forget(self, now: float) -> None:
        while self._spent and self._spent[0].at <= now - MINUTE * _SLACK:
            self._total -= self._spent.popleft().tokens
        if not self._spent:
            self._total = 0.0  # Free of the errors of many sums.


@dataclass(frozen=True)
class Allowance:
    """What a server has said is left of one of its limits.

    Attributes:
        remaining: What is left, of tokens or of requests.
        limit: What there is at most.
        reset: Seconds until all of it is there again, from when this was said.
        asked_at: When the request was sent that this was said to.
        told_at: When the reply came.
        own: What of it that request itself has taken.
    """

    remaining: float
    limit: float
    reset: float
    asked_at: float
    told_at: float
    own: float = 0.0

    def find_delay(self, now: float, need: float, count_since: Callable[[float], float]) -> float:
        """Seconds until so much will be left; 0 if it is.

        It is believed for a minute only: a server may be wrong, and will say so by then.

        Args:
            now: The time.
            need: Of tokens or requests, how many.
            count_since: How many have been spent after a time.
        """
        believed = self.told_at + MINUTE - now
        return max(0.0, min(believed, self._find_delay(now, min(need, self.limit), count_since)))

    def _find_delay(self, now: float, need: float, count_since: Callable[[float], float]) -> float:
        refilled_at = self.told_at + self.reset
        if now >= refilled_at:
            is_left = count_since(refilled_at) + need <= self.limit
            return 0.0 if is_left else math.inf
        # What was sent a moment before may have come to the server a moment after.
        since = count_since(self.asked_at - _MOMENT * MINUTE) - self.own
        lacking = need - (self.remaining - since)
        if lacking <= 0:
            return 0.0
        if self._refills_steadily():
            seconds_each = self.reset / (self.limit - self.remaining)
            return self.told_at + lacking * seconds_each - now
        return refilled_at - now

    def _refills_steadily(self) -> bool:
        """Whether it refills bit by bit, rather than all at once when its time is over.

        Then what is missing is there after the same share of a second, minute, hour or day.
        """
        missing = (self.limit - self.remaining) / self.limit
        if missing <= 0:
            return False
        period = self.reset / missing
        return any(abs(period / p - 1) < 0.1 for p in (1.0, MINUTE, 3600.0, 86_400.0))
