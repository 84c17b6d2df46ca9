from __future__ import annotations

import os
from pathlib import Path
import signal
import sys
import time

import optuna
import pytest
from waiting import wait_for

from optuna_llm.evaluate import run_function


pytestmark = pytest.mark.slow


def divide(dividend: float, divisor: float) -> float:
    return dividend / divisor


def hang(started: Path) -> None:
    """Hang with a child that hangs too."""
    child = os.fork()
    if child == 0:
        time.sleep(100)
    started.write_text(str(child))
    time.sleep(100)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("both of them")


def fail_in_its_own_way() -> None:
    raise Unpicklable(1, 2)


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(3)


def prune() -> None:
    raise optuna.TrialPruned


def talk() -> None:
    sys.stdout.write("said")


def test_it_returns_what_the_function_returns() -> None:
    assert run_function(divide, 6.0, 3.0, timeout=60) == 2.0


def test_an_exception_is_raised_with_the_functions_own_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_function(divide, 1.0, 0.0, timeout=60)
    assert "return dividend / divisor" in str(caught.value.__cause__)


def test_an_exception_that_does_not_unpickle_is_told_in_words() -> None:
    with pytest.raises(RuntimeError, match="Unpicklable: both of them"):
        run_function(fail_in_its_own_way, timeout=60)


@pytest.mark.parametrize(
    ("function", "says"),
    [(die, "was killed by signal 11"), (leave, "ended with exit code 3")],
)
def test_a_process_that_dies_is_an_error(function: object, says: str) -> None:
    with pytest.raises(RuntimeError, match=says):
        run_function(function, timeout=60)  # type: ignore[arg-type]


def test_a_function_that_hangs_costs_one_trial_and_leaves_nothing_behind(tmp_path: Path) -> None:
    started = tmp_path / "started"

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 0:
            run_function(hang, started, timeout=5)
        return run_function(divide, trial.suggest_float("x", 1, 2), 1.0, timeout=60)

    study = optuna.create_study()
    study.optimize(objective, n_trials=2, catch=TimeoutError)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    child = int(started.read_text())
    wait_for(lambda: is_gone(child))


def test_a_pruned_trial_is_pruned() -> None:
    with pytest.raises(optuna.TrialPruned):
        run_function(prune, timeout=60)


def test_what_it_prints_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    run_function(talk, timeout=60)
    assert capfd.readouterr().out == "said"


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf")])
def test_a_time_limit_must_be_a_finite_number_above_0(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be above 0"):
        run_function(divide, 1.0, 1.0, timeout=timeout)
