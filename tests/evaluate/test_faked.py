"""Candidates that pretend to have computed something, or want to be graded better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optuna_llm.evaluate import run_python


pytestmark = pytest.mark.usefixtures("bubblewrap")


@pytest.mark.slow
@pytest.mark.parametrize(
    "fake",
    [
        "print('accuracy: 1.0')",
        "open(result, 'w').write('{}')",
        "open(result, 'wb').write(b'\\x80\\x04.')",
        "open(result, 'w').write('[' * 100000)",
        "open(result, 'r+b').truncate(2**29)",
        "os.chmod(result, 0)",
        "os.unlink(result)",
        "os.unlink(result); os.mkfifo(result)",
        "os.unlink(result); os.mkdir(result)",
        "os.unlink(result); os.symlink('/dev/zero', result)",
        "shutil.rmtree(os.path.dirname(result))",
    ],
)
@pytest.mark.parametrize("sandbox", ["require", "container"])
def test_a_faked_end_is_a_failure_in_words(fake: str, sandbox: Any) -> None:
    code = f"import os, shutil\nresult = os.environ['OPTUNA_LLM_RESULT']\n{fake}\nos._exit(0)"
    execution = run_python(code, outputs=["y"], timeout=20, sandbox=sandbox)
    assert not execution.ok
    assert not execution.timed_out
    assert execution.values == {}
    assert execution.stderr


def test_a_pickle_that_runs_code_is_not_opened_here(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"""
import os
class Trap:
    def __reduce__(self):
        return os.system, ("touch {trap}; echo SPRUNG",)
trap = Trap()
"""
    first = run_python(code, keep=["trap"], timeout=10, sandbox="require")
    assert first.ok
    second = run_python("x = 1", kept=first.kept, outputs=["x"], timeout=10, sandbox="require")
    assert "SPRUNG" in second.stdout
    assert not trap.exists()
    assert "trap" not in repr(first)


THIEF = """
import gc, sys
import numpy as np
import sklearn.metrics
sklearn.metrics.accuracy_score = lambda *args, **kwargs: 1.0

class Thief:
    def predict(self, X):
        frame = sys._getframe()
        hoard = []
        while frame:
            hoard += [*frame.f_locals.values(), *frame.f_globals.values()]
            frame = frame.f_back
        for thing in hoard + gc.get_objects():
            if isinstance(thing, np.ndarray) and thing.shape == (len(X),):
                return thing
        return np.zeros(len(X))

clf = Thief()
"""


@pytest.mark.slow
def test_neither_a_replaced_scorer_nor_a_search_of_the_stack_finds_the_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = Path(__file__).parents[2] / "examples"
    monkeypatch.syspath_prepend(str(examples))
    import sklearn_automl

    accuracy, _ = sklearn_automl.score(THIEF)
    # What is left is to guess: one digit in ten is a zero.
    assert 0.05 < accuracy < 0.15
