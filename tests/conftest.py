from __future__ import annotations

from collections.abc import Generator
from collections.abc import Iterator
import os
import signal

from hypothesis import settings
import optuna
import pytest

from optuna_llm.evaluate._sandbox import find_problem


pytest.register_assert_rewrite("optuna.testing.pytest_samplers")
# The same examples in each run, on machines of any speed: tests/fuzz.py looks for new ones.
settings.register_profile("tests", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("ci", settings.get_profile("tests"), max_examples=100)
settings.load_profile("ci" if os.environ.get("CI") else "tests")
# What a shell starts in the background ignores interrupts, and so would the tests of them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys and addresses of who runs it."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPTUNA_LLM_LOG", "OPTUNA_LLM_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What Optuna and this package log, from INFO on."""
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    yield caplog
    optuna.logging.disable_propagation()


@pytest.fixture
def bubblewrap() -> None:
    """For tests of what only a sandbox can hold back."""
    if problem := find_problem():
        pytest.skip(problem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure: there everything must be at hand."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report
