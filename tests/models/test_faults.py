from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import timezone
from email.utils import format_datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from optuna_llm import ContextLengthError
from optuna_llm import LLMError
from optuna_llm import ModelSetupError
from optuna_llm import ReplyError
from optuna_llm.models._faults import explain_status
from optuna_llm.models._faults import RejectedError
from optuna_llm.models._faults import TransientError


SENT = ["temperature", "max_tokens", "seed", "top_k"]


def explain(status: int, body: Any, sent: Any = (), **headers: str) -> LLMError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return explain_status(status, body, named, "server", sent)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": "bad key"}}, ModelSetupError),
        (404, {"error": {"message": "no such model"}}, ModelSetupError),
        (400, "no", ModelSetupError),
        (429, {"error": {"code": "insufficient_quota"}}, ModelSetupError),
        (429, {"error": {"message": "slow down"}}, TransientError),
        (408, None, TransientError),
        (529, "<html>", TransientError),
        (400, {"error": {"code": "context_length_exceeded"}}, ContextLengthError),
        (400, {"error": {"message": "prompt is too long: 9 tokens > 8"}}, ContextLengthError),
        (413, "input exceeds the available context size (n_ctx 4096)", ContextLengthError),
        (400, {"error": {"code": "content_filter"}}, ReplyError),
        (422, {"detail": [{"loc": ["body", "seed"]}]}, RejectedError),
    ],
)
def test_a_status_is_explained(status: int, body: Any, kind: type[LLMError]) -> None:
    assert type(explain(status, body, SENT)) is kind


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"error": {"param": "seed", "message": "seed or top_k"}}, {"seed": None}),
        ({"error": {"message": "unknown: top_k"}}, {"top_k": None}),
        ("use max_completion_tokens, not max_tokens", {"max_tokens": "max_completion_tokens"}),
        ([{"error": {"param": "temperature"}}], {"temperature": None}),
    ],
)
def test_the_parameter_that_is_blamed_is_found(body: Any, names: dict[str, str | None]) -> None:
    error = explain(400, body, SENT)
    assert isinstance(error, RejectedError)
    assert error.names == names


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": "-3"}, 0),
        ({"retry_after": "inf"}, 0),
        ({"retry_after": "soon"}, 0),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_the_server_says_when_to_come_back(headers: dict[str, str], seconds: float) -> None:
    error = explain(429, None, **headers)
    assert isinstance(error, TransientError)
    assert error.retry_after == seconds


def test_the_server_may_say_it_as_a_date() -> None:
    later = datetime.now(timezone.utc) + timedelta(seconds=100)
    error = explain(503, None, retry_after=format_datetime(later, usegmt=True))
    assert isinstance(error, TransientError)
    assert 90 < error.retry_after <= 100


json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(SENT),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "param", "loc", "code"]) | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(
    st.integers(400, 599),
    json_bodies,
    st.lists(st.sampled_from(SENT), unique=True),
    st.dictionaries(st.sampled_from(["retry_after", "retry_after_ms"]), st.text()),
)
def test_any_answer_is_an_error_that_can_be_acted_on(
    status: int, body: Any, sent: list[str], headers: dict[str, str]
) -> None:
    error = explain(status, body, sent, **headers)
    assert str(error)
    assert len(str(error)) < 1_000
    if isinstance(error, RejectedError):
        # Something goes away each time, so that it ends.
        assert error.names
        assert error.names.keys() <= set(sent)
    if isinstance(error, TransientError):
        assert error.retry_after >= 0
