"""Commands as models: what they are given, what they print, and how they end."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import pickle
import sys
import threading
from typing import Any
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st
import optuna
from processes import commands_with
from provenance import told
import pytest
from waiting import wait_for

from optuna_llm import CommandModel
from optuna_llm import ContextLengthError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import Usage
from optuna_llm._cancellation import start_thread
from optuna_llm.models._printed import CommandFailure
from optuna_llm.models._printed import read_printed


MESSAGES = (Message("system", "Be {prompt} brief."), Message("user", "Propose trial 1."))


def run_python(code: str, *arguments: str, timeout: float = 60) -> CommandModel:
    return CommandModel([sys.executable, "-S", "-c", code, *arguments], timeout=timeout)


ECHO = "import json, sys; print(json.dumps([sys.stdin.read(), *sys.argv[1:]]))"


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ([], ["Be {prompt} brief.\n\nPropose trial 1."]),
        (["-p", "{prompt}"], ["", "-p", "Be {prompt} brief.\n\nPropose trial 1."]),
        (["-s", "<{system}>"], ["Propose trial 1.", "-s", "<Be {prompt} brief.>"]),
        (["{system}|{prompt}"], ["", "Be {prompt} brief.|Propose trial 1."]),
    ],
)
def test_the_prompt_is_read_from_the_input_or_from_an_argument(
    arguments: list[str], received: list[str]
) -> None:
    completion = run_python(ECHO, *arguments).complete(MESSAGES)
    assert json.loads(completion.text) == received
    assert completion.model is None


def test_a_command_runs_in_an_empty_folder_of_its_own_with_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGIN", "me")
    code = "import os; open('made', 'w'); print(os.getcwd(), *os.listdir(), os.environ['LOGIN'])"
    folder, *rest = run_python(code).complete(MESSAGES).text.split()
    assert rest == ["made", "me"]
    assert not Path(folder).exists()


def test_a_program_is_found_relative_to_where_the_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "ask.sh"
    script.write_text("#!/bin/sh\ncat >/dev/null\necho hello\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    model = pickle.loads(pickle.dumps(CommandModel(["./ask.sh"])))
    assert model.complete(MESSAGES).text == "hello"
    assert model.name == "ask.sh"


def test_a_command_proposes_the_trials_of_a_study() -> None:
    said = {
        "type": "result",
        "is_error": False,
        "result": '<rationale>Closer.</rationale><numbers>{"x": 0.25}</numbers>',
        "usage": {"input_tokens": 7, "cache_read_input_tokens": 90, "output_tokens": 5},
        "modelUsage": {"small": {"outputTokens": 1}, "big": {"outputTokens": 5}},
    }
    sampler = LLMSampler(model=run_python(f"print({json.dumps(said)!r})"))
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=2)
    trial = study.trials[1]
    assert trial.params == {"x": 0.25}
    assert told(trial, "source") == "model"
    assert told(trial, "model") == "big"
    assert told(trial, "prompt_tokens") == 97
    assert told(trial, "cached_tokens") == 90


def test_a_command_that_fails_is_a_model_error_with_the_end_of_what_it_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENT_API_KEY", "sk-very-secret")
    code = "import os, sys; sys.exit('x' * 9999 + f' {os.environ[\"AGENT_API_KEY\"]} is wrong')"
    with pytest.raises(ModelError, match=r"ended with status 1: x+ \*\*\* is wrong") as caught:
        run_python(code).complete(MESSAGES)
    assert len(str(caught.value)) < 1_200
    assert not isinstance(caught.value, ModelSetupError)


@pytest.mark.parametrize("command", ["no-such-command-at-all", "./none/such", os.sep])
def test_a_command_that_is_not_there_ends_the_study(command: str) -> None:
    study = optuna.create_study(sampler=LLMSampler(model=CommandModel([command])))
    with pytest.raises(ModelSetupError, match="There is no command"):
        study.optimize(
            lambda trial: trial.suggest_float("x", -1, 1), n_trials=3, catch=(Exception,)
        )


def test_a_file_that_cannot_be_started_is_a_setup_error(tmp_path: Path) -> None:
    script = tmp_path / "broken"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(ModelSetupError, match="broken cannot be started"):
        CommandModel([script]).complete(MESSAGES)


@pytest.mark.skipif(sys.platform != "linux", reason="how long an argument may be differs")
def test_a_prompt_too_long_for_an_argument_asks_for_a_shorter_one() -> None:
    with pytest.raises(ContextLengthError, match=r"without \{prompt\}, it is sent to"):
        run_python(ECHO, "{prompt}").complete([Message("user", "x" * 200_000)])
    long = run_python("import sys; print(len(sys.stdin.read()))")
    assert long.complete([Message("user", "x" * 200_000)]).text == "200000"


def test_no_prompt_is_handed_to_a_batch_file_as_an_argument(tmp_path: Path) -> None:
    script = tmp_path / "ask.cmd"
    script.write_text("#!/bin/sh\ncat\n")
    script.chmod(0o755)
    with pytest.raises(ModelSetupError, match="is a batch file"):
        CommandModel([script, "{prompt}"]).complete(MESSAGES)
    assert CommandModel([script]).complete([Message("user", "hello")]).text == "hello"


# A child in a session of its own, so that killing the group does not reach it.
PARENT = """\
import os, subprocess, sys, time
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(1000)", sys.argv[1]]
subprocess.Popen(sleep, start_new_session=True)
subprocess.Popen(sleep)
open(sys.argv[2], "w").close()
time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = uuid4().hex
    with pytest.raises(ModelError, match=r"No reply within 0\.5 seconds"):
        run_python(PARENT, mark, str(tmp_path / "started"), timeout=0.5).complete(MESSAGES)
    wait_for(lambda: not commands_with(mark))


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_cancelled_command_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = uuid4().hex
    raised: list[Exception] = []
    ended = threading.Event()

    def ask() -> None:
        try:
            run_python(PARENT, mark, str(tmp_path / "started"), timeout=1000).complete(MESSAGES)
        except ModelError as error:
            raised.append(error)
        ended.set()

    cancellation = start_thread(ask)
    wait_for((tmp_path / "started").exists)
    assert len(commands_with(mark)) >= 1
    cancellation.cancel()
    assert ended.wait(60)
    assert str(raised[0]) == "The call was cancelled."
    wait_for(lambda: not commands_with(mark))


@pytest.mark.parametrize(
    ("command", "error", "match"),
    [
        ("claude -p", TypeError, "must be a list of the program and its arguments"),
        ([], ValueError, "command is empty"),
        ([" "], ValueError, "command is empty"),
        ([b"x"], TypeError, "must be a list of strings"),
    ],
)
def test_a_command_that_cannot_be_right_is_refused(
    command: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        CommandModel(command)
    with pytest.raises(ValueError, match="timeout must be above 0"):
        CommandModel(["x"], timeout=0)


def write_lines(*events: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(event)}\n" for event in events)


CLAUDE = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "result": "hello",
    "total_cost_usd": 0.1,
    "usage": {
        "input_tokens": 2,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 400,
        "output_tokens": 9,
    },
    "modelUsage": {"haiku": {"outputTokens": 3}, "opus": {"outputTokens": 6}},
}
GEMINI = {
    "session_id": "1",
    "response": "hello",
    "stats": {
        "models": {
            "flash": {"tokens": {"prompt": 10, "candidates": 2, "cached": 0, "thoughts": 0}},
            "pro": {"tokens": {"prompt": 100, "candidates": 7, "cached": 60, "thoughts": 5}},
        }
    },
}
CODEX = (
    {"type": "thread.started", "thread_id": "1"},
    {"type": "error", "message": "Reconnecting… 1/5"},
    {"type": "item.completed", "item": {"type": "agent_message", "text": "I look first."}},
    {"type": "item.completed", "item": {"type": "reasoning", "text": "thinking"}},
    {"type": "item.completed", "item": {"type": "agent_message", "text": "hello"}},
    {
        "type": "turn.completed",
        "usage": {
            "input_tokens": 432,
            "cached_input_tokens": 400,
            "output_tokens": 9,
            "reasoning_output_tokens": 4,
        },
    },
)


@pytest.mark.parametrize(
    ("output", "model", "usage"),
    [
        (json.dumps(CLAUDE, indent=2), "opus", Usage(432, 400, 9)),
        (write_lines({"type": "system"}, CLAUDE), "opus", Usage(432, 400, 9)),
        (json.dumps([{"type": "assistant"}, CLAUDE]), "opus", Usage(432, 400, 9)),
        (json.dumps(GEMINI), "pro", Usage(110, 60, 14, 5)),
        (write_lines(*CODEX), None, Usage(432, 400, 9, 4)),
        ("hello\n", None, Usage()),
        ("\x1b[1m\x1b]0;title\x07hello\x1b[0m\r\n", None, Usage()),
    ],
)
def test_reply_and_tokens_are_read_from_what_agents_print(
    output: str, model: str | None, usage: Usage
) -> None:
    completion = read_printed(output)
    assert (completion.text, completion.model, completion.usage) == ("hello", model, usage)


@pytest.mark.parametrize(
    "reply",
    ['{"rationale": "r", "numbers": {"x": 1}}', '{"type": "result", "result": 1}', "[1]", ""],
)
def test_a_reply_that_is_json_itself_stays_as_it_is(reply: str) -> None:
    assert read_printed(reply).text == reply


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (json.dumps(CLAUDE | {"is_error": True, "result": "Please run /login"}), "run /login"),
        (json.dumps({"type": "result", "is_error": True, "subtype": "error_max_turns"}), "max_t"),
        (json.dumps({"session_id": "1", "error": {"message": "quota"}}), "quota"),
        (write_lines({"type": "turn.failed", "error": {"message": "limit"}}), "limit"),
        (write_lines({"type": "error", "message": "no network"}), "no network"),
    ],
)
def test_an_error_that_an_agent_prints_is_a_model_error(output: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        run_python(f"import sys; print({output!r}); sys.exit(1)").complete(MESSAGES)
    assert "status" not in str(caught.value)


JSON: Callable[..., Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "result",
                    "is_error",
                    "usage",
                    "response",
                    "stats",
                    "models",
                    "session_id",
                    "error",
                    "item",
                    "text",
                    "modelUsage",
                    "tokens",
                ]
            ),
            inner | st.sampled_from(["result", "item.completed", "agent_message", "turn.failed"]),
            max_size=5,
        )
    ),
)


@given(JSON)
def test_anything_that_is_printed_is_a_reply_or_a_failure(value: Any) -> None:
    try:
        completion = read_printed(json.dumps(value))
    except CommandFailure:
        return
    assert isinstance(completion.text, str)
