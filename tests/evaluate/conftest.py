from __future__ import annotations

import pytest

from optuna_llm.evaluate._sandbox import find_problem


@pytest.fixture
def bubblewrap() -> None:
    """For tests of what only a sandbox can hold back."""
    if problem := find_problem():
        pytest.skip(problem)
