"""The arithmetic of rate limits, at times that are given."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from optuna_llm.models._allowance import read_allowances
from optuna_llm.models._rate import Allowance
from optuna_llm.models._rate import MINUTE
from optuna_llm.models._rate import TokenWindow


def measured(limit: float) -> TokenWindow:
    """A window that knows what calls take."""
    window = TokenWindow(limit)
    window.settle(window.add(-1000, 1), -1000, 1, 1)
    return window


def send_all(window: TokenWindow, sizes: list[float], busy: float = 0.0) -> list[float]:
    """When each request is sent, where all are waiting from 0 on."""
    now, times = 0.0, []
    for size in sizes:
        while delay := window.find_delay(now, size):
            now += delay
        times.append(now)
        window.add(now, size)
        now += busy
    return times


SIZES = st.lists(st.floats(1, 5_000), min_size=1, max_size=60)


@given(SIZES, st.floats(0, 20))
def test_no_minute_holds_more_than_the_limit(sizes: list[float], busy: float) -> None:
    times = send_all(measured(5_000), sizes, busy)
    for begin in times:
        inside = [s for t, s in zip(times, sizes, strict=True) if begin <= t < begin + MINUTE]
        assert sum(inside) <= 5_000 * (1 + 1e-9)


@given(SIZES)
def test_a_bucket_of_the_same_limit_never_runs_dry(sizes: list[float]) -> None:
    left, at = 5_000.0, 0.0
    for time, size in zip(send_all(measured(5_000), sizes), sizes, strict=True):
        left, at = min(5_000, left + 5_000 * (time - at) / MINUTE), time
        left -= size
        assert left >= -1e-6


def test_the_limit_is_used_up() -> None:
    times = send_all(measured(6_000), [100.0] * 600)
    assert 600 * 100 / 6_000 == 10
    assert times[-1] <= 10.3 * MINUTE


def test_a_quarter_goes_at_once_and_the_rest_at_an_even_pace() -> None:
    times = send_all(measured(6_000), [100.0] * 60)
    assert times[:16] == [0.0] * 16
    steps = [after - before for before, after in itertools.pairwise(times[15:46])]
    assert steps == pytest.approx([1.0] * 30)


def test_a_request_above_the_limit_waits_for_a_minute_of_its_own() -> None:
    times = send_all(measured(1_000), [200, 5_000, 200])
    assert times[0] == 0
    assert times[1] >= MINUTE
    assert times[2] >= 2 * MINUTE


def test_before_any_reply_only_so_much_is_sent_as_a_burst() -> None:
    window = TokenWindow(6_000)
    spent = [window.add(0, 500) for _ in range(3)]
    assert window.find_delay(30, 500) > 0
    window.settle(spent[0], 30, 500, 100)
    assert window.find_delay(30, 500) == 0


def test_a_reply_that_took_more_than_foreseen_delays_the_next() -> None:
    window = measured(6_000)
    first = window.add(0, 100)
    assert window.find_delay(1, 100) == 0
    window.settle(first, 1, 100, 5_900)
    assert window.find_delay(1, 100) == pytest.approx(MINUTE * 1.02 - 1)


def test_those_that_came_before_are_left_their_room() -> None:
    window = measured(6_000)
    assert window.find_delay(0, 100) == 0
    assert window.find_delay(0, 100, ahead=5_000) > 0
    assert window.find_delay(0, 100, ahead=50_000) > 7 * MINUTE


def tell(**headers: Any) -> dict[str, Allowance]:
    named = {f"x-ratelimit-{n.replace('_', '-')}": str(v) for n, v in headers.items()}
    return dict(read_allowances(named, 0.0, 0.0))


def unspent(_: float) -> float:
    return 0.0


def one(_: float) -> float:
    return 1.0


def test_a_bucket_that_refills_is_waited_for_until_it_holds_enough() -> None:
    told = tell(limit_tokens=6_000, remaining_tokens=500, reset_tokens="55s")["tokens"]
    assert told.find_delay(0, 500, unspent) == 0
    assert told.find_delay(0, 1_500, unspent) == pytest.approx(10)
    assert told.find_delay(4, 1_500, unspent) == pytest.approx(6)
    assert told.find_delay(0, 500, lambda _: 200) == pytest.approx(2)


def test_a_window_is_waited_for_until_it_is_over() -> None:
    told = tell(limit_tokens=6_000, remaining_tokens=500, reset_tokens="12")["tokens"]
    assert told.find_delay(0, 500, unspent) == 0
    assert told.find_delay(2, 1_500, unspent) == pytest.approx(10)
    assert told.find_delay(13, 6_000, unspent) == 0


def test_a_limit_of_requests_counts_requests() -> None:
    told = tell(limit_requests=60, remaining_requests=1, reset_requests="59s")["requests"]
    assert told.find_delay(0, 1, one) == 0
    assert told.find_delay(0, 2, one) == pytest.approx(1)


def test_a_server_that_asks_for_a_day_is_asked_again_after_a_minute() -> None:
    told = tell(limit_requests=100, remaining_requests=0, reset_requests="7h")["requests"]
    assert told.find_delay(0, 1, one) == MINUTE
    assert told.find_delay(MINUTE, 1, unspent) == 0


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("6m0s", 360), ("2ms", 0.002), ("1.5", 1.5), ("0s", 0), ("1500", 1500)],
)
def test_a_reset_is_read_in_the_forms_that_servers_use(reset: str, seconds: float) -> None:
    told = tell(limit_tokens=9, remaining_tokens=0, reset_tokens=reset)
    assert told["tokens"].reset == pytest.approx(seconds)


@pytest.mark.parametrize("reset", ["2015-10-21T07:28:00Z", "1445412480", "1445412480000"])
def test_a_reset_in_the_past_is_now(reset: str) -> None:
    assert tell(limit_tokens=9, remaining_tokens=0, reset_tokens=reset)["tokens"].reset == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"remaining_tokens": 5},
        {"limit_tokens": 9, "remaining_tokens": 5},
        {"limit_tokens": 9, "remaining_tokens": -1, "reset_tokens": "1s"},
        {"limit_tokens": 9, "remaining_tokens": 50, "reset_tokens": "1s"},
        {"limit_tokens": 0, "remaining_tokens": 0, "reset_tokens": "1s"},
        {"limit_tokens": "nan", "remaining_tokens": "inf", "reset_tokens": "1s"},
        {"limit_tokens": 9, "remaining_tokens": 5, "reset_tokens": "soon"},
    ],
)
def test_headers_that_do_not_say_enough_are_skipped(headers: dict[str, Any]) -> None:
    assert tell(**headers) == {}


@given(st.text(), st.text(), st.text(), st.floats(0, 1e6), st.floats(0, 1e9))
def test_whatever_headers_say_nobody_waits_for_more_than_a_minute(
    limit: str, remaining: str, reset: str, now: float, need: float
) -> None:
    for told in tell(limit_tokens=limit, remaining_tokens=remaining, reset_tokens=reset).values():
        assert 0 <= told.find_delay(now, need, unspent) <= MINUTE
