from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import copy
import io
from pathlib import Path
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import optuna
from optuna.trial import TrialState
import pytest

from optuna_llm import Completion
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm import Usage
from optuna_llm.callbacks import ConsoleCallback
from optuna_llm.callbacks import FirstHeartbeatCallback
from optuna_llm.callbacks import MaxCostCallback
from optuna_llm.callbacks import MaxTokensCallback
from optuna_llm.callbacks import Prices
from optuna_llm.callbacks import TargetValueCallback
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


USAGE = Usage(prompt_tokens=900, cached_tokens=400, completion_tokens=100)


def make_study(model_name: str = "m", **arguments: Any) -> optuna.Study:
    """A study in which each proposal costs a thousand tokens."""

    def answer(messages: Sequence[Message]) -> Completion:
        return Completion(write_reply({"x": len(model.calls) / 1_000}), model_name, USAGE)

    model = ScriptedModel(answer)
    return optuna.create_study(sampler=LLMSampler(model=model, seed=0), **arguments)


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


@pytest.mark.parametrize(
    ("direction", "value", "n_trials"), [("minimize", 0.005, 2), ("maximize", 0.003, 1)]
)
def test_a_target_value_stops_the_study(direction: Any, value: float, n_trials: int) -> None:
    study = make_study(direction=direction)
    study.optimize(objective, n_trials=10, callbacks=[TargetValueCallback(value)])
    assert len(study.trials) == n_trials


def sleep_for(seconds: float) -> Callable[[optuna.Trial], float]:
    def sleep(trial: optuna.Trial) -> float:
        time.sleep(seconds)
        return 0.0

    return sleep


def open_with_heartbeats(path: Path, grace_period: int) -> optuna.storages.RDBStorage:
    url = f"sqlite:///{path}/s.db"
    return optuna.storages.RDBStorage(url, heartbeat_interval=1, grace_period=grace_period)


@pytest.mark.slow
def test_a_trial_that_died_before_its_first_heartbeat_is_failed(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_with_heartbeats(tmp_path, 2))
    # All that a worker has done that is killed in study.ask().
    orphan = study._storage.create_new_trial(study._study_id)
    callback = FirstHeartbeatCallback()
    deadline = time.monotonic() + 60
    while study._storage.get_trial(orphan).state == TrialState.RUNNING:
        assert time.monotonic() < deadline
        study.optimize(sleep_for(0.2), n_trials=1, callbacks=[callback])
    assert study._storage.get_trial(orphan).state == TrialState.FAIL
    others = study.get_trials()[1:]
    assert {trial.state for trial in others} == {TrialState.COMPLETE}


@pytest.mark.slow
def test_a_trial_that_is_alive_is_left_alone(tmp_path: Path) -> None:
    # A grace that no busy machine uses up.
    study = optuna.create_study(storage=open_with_heartbeats(tmp_path, 60))
    long = threading.Thread(target=study.optimize, args=(sleep_for(7), 1))
    long.start()
    callback = FirstHeartbeatCallback()
    while long.is_alive():
        study.optimize(sleep_for(0.2), n_trials=1, callbacks=[callback])
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_a_storage_without_heartbeats_is_refused() -> None:
    study = make_study()
    with pytest.raises(ValueError, match="heartbeat_interval=60"):
        study.optimize(objective, n_trials=1, callbacks=[FirstHeartbeatCallback()])


def test_an_infeasible_trial_does_not_reach_the_target() -> None:
    def constrained(trial: optuna.Trial) -> float:
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [1.0])
        return objective(trial)

    study = make_study()
    study.optimize(constrained, n_trials=4, callbacks=[TargetValueCallback(1)])
    assert len(study.trials) == 4


def test_a_target_value_is_for_one_objective() -> None:
    study = optuna.create_study(directions=["minimize"] * 2)
    with pytest.raises(ValueError, match="single objective"):
        study.optimize(lambda t: (0, 0), n_trials=1, callbacks=[TargetValueCallback(1)])


def test_a_budget_of_tokens_stops_the_study() -> None:
    study = make_study()
    study.optimize(objective, n_trials=20, callbacks=[MaxTokensCallback(4_500)])
    assert len(study.trials) == 1 + 5


def test_tokens_of_other_workers_and_those_in_flight_count() -> None:
    study = make_study()
    study.optimize(objective, n_trials=3)  # By another worker: 2,000 tokens.
    others = [study.ask() for _ in range(2)]  # Their proposals are not in yet.
    study.optimize(objective, n_trials=20, callbacks=[MaxTokensCallback(5_000)])
    # 2,000 + 2,000 in flight + 1,000 of its own.
    assert len([t for t in study.trials if t.state == TrialState.COMPLETE]) == 4
    assert len(others) == 2


def test_prices_are_per_million_tokens() -> None:
    assert Prices(10, 20, 1).cost(USAGE) == pytest.approx(500 * 10e-6 + 400 * 1e-6 + 100 * 20e-6)
    assert Prices(10, 20).cost(USAGE) == pytest.approx(900 * 10e-6 + 100 * 20e-6)


@pytest.mark.parametrize("prices", [Prices(10, 20), {"m": Prices(10, 20)}])
def test_a_budget_of_money_stops_the_study(prices: Any) -> None:
    study = make_study()
    study.optimize(objective, n_trials=20, callbacks=[MaxCostCallback(0.04, prices)])
    # 0.011 a proposal.
    assert len(study.trials) == 1 + 4


def test_a_model_without_a_price_is_an_error() -> None:
    callback = MaxCostCallback(1, {"other": Prices(1, 1)})
    with pytest.raises(ValueError, match="prices= has no entry for the model 'm'"):
        make_study().optimize(objective, n_trials=2, callbacks=[callback])


try:
    import genai_prices  # noqa: F401 - not to be had for the oldest Python
except ImportError:

    def test_without_genai_prices_prices_must_be_given() -> None:
        with pytest.raises(ImportError, match=r"pip install \"optuna-llm\[prices\]\""):
            MaxCostCallback(1)

else:

    def test_prices_that_are_known_are_looked_up() -> None:
        study = make_study("gpt-4o")
        # 500 x 2.5 + 400 x 1.25 + 100 x 10 dollars per million: 0.00275 a proposal.
        study.optimize(objective, n_trials=20, callbacks=[MaxCostCallback(0.006)])
        assert len(study.trials) == 1 + 3
        with pytest.raises(ValueError, match="price of the model 'nobody-knows-me': give prices="):
            make_study("nobody-knows-me").optimize(
                objective, n_trials=2, callbacks=[MaxCostCallback(1)]
            )


@pytest.mark.parametrize("make", [MaxTokensCallback, lambda n: MaxCostCallback(n, Prices(1, 1))])
def test_a_budget_must_be_above_0(make: Any) -> None:
    with pytest.raises(ValueError, match="must be above 0: 0"):
        make(0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


LONG = "".join(f"line_{i} = {i}\n" for i in range(30))


def run_console(file: io.StringIO) -> str:
    def talk(trial: optuna.Trial) -> float:
        suggest_text(trial, "code", LONG, language="python")
        trial.suggest_float("x", 0, 1)
        report_feedback(trial, "[bold]so so[/bold] \x1b[31mred")
        if trial.number == 2:
            raise RuntimeError
        return 0.25

    replies = [
        write_reply({"x": 0.5}, {"code": LONG.replace("= 7", "= 77")}, "Change [7]."),
        write_reply({"x": 0.75}, {"code": "b"}, "Try b."),
        *["What?"] * 3,
    ]
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(replies)))
    study.optimize(talk, n_trials=4, catch=Exception, callbacks=[ConsoleCallback(file)])
    return file.getvalue()


def test_to_a_file_the_console_writes_plain_text() -> None:
    shown = run_console(io.StringIO())
    assert "\x1b" not in shown
    assert "trial 0 (initial)\n" in shown
    assert LONG in shown
    assert f"code:\n{LONG}" in shown
    assert "trial 1 (model)\nChange [7].\nx = 0.5\ncode, changes to trial 0:\n@@" in shown
    assert "-line_7 = 7\n+line_7 = 77\n" in shown
    assert "[bold]so so[/bold] \\x1b[31mred\nvalue: 0.25\n" in shown
    assert "trial 2 (model)\nTry b.\nx = 0.75\ncode:\nb\n" in shown
    assert shown.count("failed\n") == 1
    assert "failed: Trial 3: no usable reply in 3 calls" in shown


def test_to_a_terminal_the_console_writes_in_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = run_console(Terminal())
    assert "\x1b[33mChange [7].\x1b[0m" in shown
    assert "\x1b[32mvalue: 0.25\x1b[0m" in shown
    assert "[bold]so so[/bold] \\x1b[31mred" in shown


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("terminal", [False, True])
def test_what_the_console_cannot_encode_is_shown_as_escapes(encoding: str, terminal: bool) -> None:
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding=encoding, newline="")
    if terminal:
        file.isatty = lambda: True  # type: ignore[method-assign]
    study = optuna.create_study()
    attributes = {"feedback": "日本 \ud800 ✓", "code": "größe = 1", "llm:texts": {"code": 1}}
    study.add_trial(optuna.trial.create_trial(value=1, user_attrs=attributes))
    ConsoleCallback(file)(study, study.trials[0])
    shown = written.getvalue().decode(encoding)
    assert ("日本 \\ud800 ✓" if encoding == "utf-8" else "\\u65e5\\u672c \\ud800 \\u2713") in shown
    assert ("gr\\xf6\\xdfe" if encoding == "ascii" else "größe") in shown


@pytest.mark.parametrize("error", [BrokenPipeError("no reader"), ValueError("closed file")])
def test_a_console_that_cannot_be_written_ends_no_study(
    error: Exception, logs: pytest.LogCaptureFixture
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    study = optuna.create_study()
    study.optimize(lambda trial: 1.0, 3, callbacks=[ConsoleCallback(Broken())])
    assert len(study.trials) == 3
    assert logs.text.count(f"ConsoleCallback cannot write its output: {error}") == 1


def test_a_process_without_standard_output_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    optuna.create_study().optimize(lambda trial: 1.0, 1, callbacks=[ConsoleCallback()])


NOTEBOOK = """
import builtins, sys, types

class ZMQInteractiveShell: ...  # By its name rich knows a notebook.

shown = []
sys.modules["ipykernel"] = types.ModuleType("ipykernel")
sys.modules["IPython"] = types.ModuleType("IPython")
display = sys.modules["IPython.display"] = types.ModuleType("IPython.display")
display.display = shown.append
builtins.get_ipython = ZMQInteractiveShell

import optuna
from optuna_llm import suggest_text
from optuna_llm.callbacks import ConsoleCallback
study = optuna.create_study()
study.optimize(
    lambda trial: len(suggest_text(trial, "code", "a < 1", language="python")),
    1,
    callbacks=[ConsoleCallback()],
)
[block] = [s._repr_mimebundle_([], [])["text/html"] for s in shown]
assert "trial 0" in block and "a &lt; " in block or "&lt;" in block, block
assert "color: #" in block, block
"""


def test_a_notebook_shows_a_trial_as_one_block_in_color() -> None:
    shown = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, ""), shown.stderr


def test_a_budget_warns_once_of_a_server_that_counts_no_tokens(
    logs: pytest.LogCaptureFixture,
) -> None:
    model = ScriptedModel(lambda _: write_reply({"x": len(model.calls) / 10}))
    study = optuna.create_study(sampler=LLMSampler(model=model))
    callbacks = [MaxTokensCallback(10), MaxCostCallback(1, Prices(1, 1))]
    study.optimize(objective, 4, callbacks=callbacks[:1])
    assert logs.text.count("does not report how many tokens it uses") == 1
    assert "Limit it with n_trials= or timeout=" in logs.text
    study.optimize(objective, 4, callbacks=callbacks[1:])
    assert logs.text.count("does not report how many tokens it uses") == 2


def test_a_model_that_fails_is_no_server_that_counts_no_tokens(
    logs: pytest.LogCaptureFixture,
) -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel([ModelError("down")])))
    study.optimize(objective, 2, callbacks=[MaxTokensCallback(10)])
    assert "does not report" not in logs.text


def test_the_console_is_copied_with_what_holds_it() -> None:
    console = ConsoleCallback()
    assert isinstance(copy.deepcopy(console), ConsoleCallback)
    assert isinstance(pickle.loads(pickle.dumps(console)), ConsoleCallback)
