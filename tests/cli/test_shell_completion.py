"""Completion in the shells that people use."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import pty
import shutil
import subprocess
import sys
import threading

from click.testing import CliRunner
import optuna
from optuna.storages.journal import JournalFileBackend
import pytest
from waiting import wait_for

from optuna_llm.cli import main


SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "--no-rcs", "-i"],
}


@pytest.fixture
def _studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = optuna.storages.JournalStorage(JournalFileBackend("study.log"))
    for name in ("one", "two"):
        optuna.create_study(study_name=name, storage=storage)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("optuna-llm ex", ["plain,export"]),
        ("optuna-llm show study.log --la", ["plain,--last"]),
        ("optuna-llm show study.log --study t", ["plain,two"]),
        ("optuna-llm show none.log --study t", []),
        ("optuna-llm show stu", ["file,stu"]),
        ("optuna-llm run study.log golf.py --direction m", ["plain,minimize", "plain,maximize"]),
    ],
)
@pytest.mark.usefixtures("_studies")
def test_words_are_completed(words: str, found: list[str]) -> None:
    env = {
        "_OPTUNA_LLM_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    result = CliRunner().invoke(main, [], prog_name="optuna-llm", env=env)
    assert result.stdout.split() == found


class Terminal:
    """A shell in a terminal, and all that it has shown."""

    def __init__(self, command: list[str]) -> None:
        self.shown = ""
        self._master, slave = pty.openpty()
        folder = str(Path(sys.executable).parent)
        env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb"}
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)
        threading.Thread(target=self._read, daemon=True).start()

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(self._master, 4096):
                self.shown += piece.decode("utf-8", "replace")


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, _studies: None) -> Iterator[Terminal]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    terminal = Terminal(SHELLS[request.param])
    if request.param == "zsh":
        terminal.type("autoload -Uz compinit && compinit -D\n")
    terminal.type(f'eval "$(_OPTUNA_LLM_COMPLETE={request.param}_source optuna-llm)"\n')
    terminal.type("echo re''ady\n")
    wait_for(lambda: "ready" in terminal.shown)
    yield terminal
    terminal.close()


@pytest.mark.slow
def test_a_shell_completes_commands_and_names_of_studies(terminal: Terminal) -> None:
    terminal.type("optuna-llm exp\t --help\n")
    wait_for(lambda: "Write the texts of the best trial to files." in terminal.shown)
    terminal.type("optuna-llm show study.l\t --study tw\t\n")
    wait_for(lambda: "study two (value: minimize), 0 trials" in terminal.shown)
