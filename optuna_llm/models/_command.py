"""A command that reads a prompt and prints a reply, as a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import errno
import os
from pathlib import Path
import re
import shutil
import tempfile
from uuid import uuid4

from optuna_llm._cancellation import current
from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import one_line
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._secrets import find_named_secrets
from optuna_llm._secrets import make_redactor
from optuna_llm._strays import kill_strays
from optuna_llm._strays import MARK
from optuna_llm._watch import Outcome
from optuna_llm._watch import watch
from optuna_llm.models._deadline import CancelledError
from optuna_llm.models._deadline import late
from optuna_llm.models._printed import CommandFailure
from optuna_llm.models._printed import read_printed


_PROMPT = "{prompt}"
_SYSTEM = "{system}"
_PLACEHOLDER = re.compile(f"{re.escape(_PROMPT)}|{re.escape(_SYSTEM)}")
_BATCH_FILES = (".bat", ".cmd")
_MAX_OUTPUT = 8_000_000
_MAX_SAID = 1_000
# Windows: "The filename or extension is too long", said of a command line too.
_WINDOWS_TOO_LONG = 206


class CommandModel:
    """A command that reads a prompt on its standard input and prints a reply.

    A coding agent without an API key, a local program, a script of your own:

    .. code-block:: python

        LLMSampler(model=CommandModel(["claude", "-p", "--output-format", "json"]))
        LLMSampler(model=CommandModel(["llm", "-m", "mistral", "-s", "{system}"]))

    The command starts without a shell, once per call, in an empty folder of its own that is
    deleted afterwards, and with this process's environment, in which it finds its login. When
    the call ends, for whatever reason, every process that it has started is killed (on Linux
    also those in a session of their own). Token counts are read where the output is the JSON of
    Claude Code, Gemini CLI or Codex CLI.

    Args:
        command: The program and its arguments. An argument that contains ``{prompt}`` is given
            the prompt, and standard input is then empty. One that contains ``{system}`` is given
            the system message, and the prompt is then the user message alone. Paths must be
            absolute, except for the program's own.
        timeout: Seconds that one call may take.

    Attributes:
        name: The program's name.

    Raises:
        TypeError: If ``command`` is a single string, or something in it is no string.
        ValueError: If it is empty, or ``timeout`` is not above 0.
    """

    def __init__(
        self, command: Sequence[str | os.PathLike[str]], *, timeout: float = 600.0
    ) -> None:
        if isinstance(command, str | bytes):
            raise TypeError(
                f"command must be a list of the program and its arguments: {command!r}. "
                "shlex.split(…) makes one of a line."
            )
        self._command = tuple(os.fspath(part) for part in command)
        if not all(isinstance(part, str) for part in self._command):
            raise TypeError(f"command must be a list of strings: {command!r}.")
        if not self._command or not self._command[0].strip():
            raise ValueError("command is empty: name a program.")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds: {timeout!r}.")
        self._timeout = timeout
        self.name = Path(self._command[0]).name

    def __repr__(self) -> str:
        return f"CommandModel({list(self._command)!r})"

    def complete(self, messages: Sequence[Message]) -> Completion:
        """What the command prints, with token counts where it tells them.

        Raises:
            ContextLengthError: If the prompt does not fit into an argument.
            ModelError: If the command fails or takes too long.
            ModelSetupError: If there is no such command, or it cannot be started.
        """
        arguments, prompt = self._fill(messages)
        redactor = make_redactor(tuple(sorted(find_named_secrets(os.environ))))
        outcome = self._run(arguments, prompt)
        if current().is_cancelled:
            raise CancelledError("The call was cancelled.")
        if outcome.timed_out:
            raise late(self._timeout)
        try:
            completion = read_printed(outcome.stdout)
        except CommandFailure as failure:
            raise ModelError(redactor.redact(f"{self.name} failed: {failure}")) from None
        if outcome.returncode:
            # Secrets first: one that is cut in two is not found.
            said = redactor.redact(outcome.stderr.strip() or outcome.stdout.strip())
            raise ModelError(self._explain(outcome.returncode, said))
        name = completion.model and one_line(redactor.redact_reply(completion.model))
        return replace(completion, text=redactor.redact_reply(completion.text), model=name)

    def _fill(self, messages: Sequence[Message]) -> tuple[list[str], str]:
        """The command with what its placeholders stand for, and what it reads on its input."""
        program = shutil.which(self._command[0])
        if program is None:
            raise ModelSetupError(
                f"There is no command {self._command[0]!r} on this machine's PATH: install it, "
                "or give the path of the program."
            )
        arguments = self._command[1:]
        system = "\n\n".join(m.content for m in messages if m.role == "system")
        takes_system = any(_SYSTEM in argument for argument in arguments)
        takes_prompt = any(_PROMPT in argument for argument in arguments)
        if (takes_system or takes_prompt) and program.lower().endswith(_BATCH_FILES):
            # Windows runs it through cmd.exe, which would run what stands in the prompt.
            raise ModelSetupError(
                f"{program} is a batch file, to which no prompt can be handed as an argument "
                f"safely: leave {_PROMPT} and {_SYSTEM} out, so that it is read from its input."
            )
        said = [m.content for m in messages if not (takes_system and m.role == "system")]
        values = {_PROMPT: "\n\n".join(said), _SYSTEM: system}
        # In one pass: what a prompt holds is no placeholder.
        filled = [_PLACEHOLDER.sub(lambda match: values[match[0]], part) for part in arguments]
        prompt = "" if takes_prompt else values[_PROMPT]
        return [os.path.abspath(program), *filled], prompt

    def _run(self, command: Sequence[str], prompt: str) -> Outcome:
        mark = uuid4().hex
        try:
            # Windows cannot delete a folder in which a process has not quite ended.
            with tempfile.TemporaryDirectory(
                prefix="optuna_llm_", ignore_cleanup_errors=True
            ) as folder:
                return watch(
                    command,
                    cwd=Path(folder),
                    env=os.environ | {MARK: mark},
                    stdin=prompt.encode("utf-8", "replace"),
                    timeout=self._timeout,
                    output=_MAX_OUTPUT,
                    descriptors=(),
                    prepare=lambda: None,
                    clear=lambda: kill_strays(mark),
                )
        except OSError as error:
            if error.errno == errno.E2BIG or getattr(error, "winerror", 0) == _WINDOWS_TOO_LONG:
                raise ContextLengthError(
                    f"The prompt is too long for an argument of {self.name}: without {_PROMPT}, "
                    "it is sent to the command's standard input, which takes any length."
                ) from error
            raise ModelSetupError(f"{self.name} cannot be started: {error}") from error

    def _explain(self, returncode: int, said: str) -> str:
        how = f"ended with status {returncode}"
        if returncode < 0:
            how = f"was killed by signal {-returncode}"
        return f"{self.name} {how}" + (f": {clean_text(said[-_MAX_SAID:])}" if said else ".")
