from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys

import optuna
import pytest

from optuna_llm import LLMSampler
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm.callbacks import ConsoleCallback
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


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
def test_characters_that_cannot_be_encoded_are_shown_as_escapes(
    encoding: str, terminal: bool
) -> None:
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding=encoding, newline="")
    if terminal:
        file.isatty = lambda: True  # type: ignore[method-assign]
    study = optuna.create_study()
    texts = {"code": "größe = 1", "llm:proposal": {"texts": {"code": 1}}}
    attributes = {"feedback": "日本 \ud800 ✓", **texts}
    study.add_trial(optuna.trial.create_trial(value=1, user_attrs=attributes))
    ConsoleCallback(file)(study, study.trials[0])
    shown = written.getvalue().decode(encoding)
    assert ("日本 \\ud800 ✓" if encoding == "utf-8" else "\\u65e5\\u672c \\ud800 \\u2713") in shown
    assert ("gr\\xf6\\xdfe" if encoding == "ascii" else "größe") in shown


@pytest.mark.parametrize("error", [BrokenPipeError("no reader"), ValueError("closed file")])
def test_output_that_cannot_be_written_does_not_end_the_study(
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


@pytest.mark.slow
def test_a_notebook_shows_a_trial_as_one_block_in_color() -> None:
    shown = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, ""), shown.stderr


def test_a_console_can_be_copied_and_pickled() -> None:
    console = ConsoleCallback()
    assert isinstance(copy.deepcopy(console), ConsoleCallback)
    assert isinstance(pickle.loads(pickle.dumps(console)), ConsoleCallback)
