from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest


pytest.register_assert_rewrite("optuna.testing.pytest_samplers")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys and addresses of who runs it."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPTUNA_LLM_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)
