"""How long a server asks its clients to wait."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import timezone
from email.utils import format_datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest
from test_faults import error
from test_faults import explain

from optuna_llm.models._faults import TransientError
from optuna_llm.models._retry_after import read_duration


def wait_after(status: int, body: Any, **headers: str) -> float:
    """Seconds to wait, as the error of a response says."""
    fault = explain(status, body, **headers)
    assert isinstance(fault, TransientError)
    return fault.retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": "-3"}, 0),
        ({"retry_after": "inf"}, 0),
        ({"retry_after": "soon"}, 0),
        ({"retry_after": "30s"}, 30),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_the_server_says_when_to_come_back(headers: dict[str, str], seconds: float) -> None:
    assert wait_after(429, None, **headers) == seconds


RETRY = [
    ([error("x", details=[{"@type": "RetryInfo", "retryDelay": "34s"}])], 34),
    ([error("x", details=[{"retryDelay": "34.074824224s"}])], 34.074824224),
    (error("Rate limit reached. Please try again in 3.5s. Visit our site."), 3.5),
    (error("Please try again in 1m2.5s."), 62.5),
    (error("Please try again in 500ms."), 0.5),
    (error("Please try again in 6m0s."), 360),
    (error("Please retry after 20 seconds."), 20),
    (error("Retry after 1 second."), 1),
    (error("Please wait 2 minutes before you ask again."), 120),
    (error("Quota resets in 1h2m3s"), 3723),
    (error("loading", estimated_time=20.0), 20),
    (error("slow down", retry_after=7), 7),
    (error("slow down", retry_after_ms=1500), 1.5),
    (error("Try again later, in the 3 sections of our site."), 0),
    (error("Retry with 5 small prompts"), 0),
]


@pytest.mark.parametrize(("body", "seconds"), RETRY)
def test_the_server_may_say_it_in_the_body_or_in_words(body: Any, seconds: float) -> None:
    assert wait_after(429, body) == pytest.approx(seconds)


def test_the_server_may_say_it_as_a_date() -> None:
    later = datetime.now(timezone.utc) + timedelta(seconds=100)
    assert 0 < wait_after(503, None, retry_after=format_datetime(later, usegmt=True)) <= 100


@given(st.text())
def test_any_text_has_a_duration(text: str) -> None:
    assert read_duration(text) >= 0
