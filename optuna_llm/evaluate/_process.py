"""Running one command to its end, and all that it has started with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
from pathlib import Path
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO
from uuid import uuid4

from optuna_llm.evaluate._records import Execution
from optuna_llm.evaluate._records import Limits
from optuna_llm.evaluate._sandbox import Sandbox
from optuna_llm.evaluate._sandbox import wrap
from optuna_llm.evaluate._sandbox import Wrapping


_MARK = "OPTUNA_LLM_CANDIDATE"
_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT", "TEMP", "TMP")


def run_command(
    command: Sequence[str],
    files: Mapping[str, bytes],
    *,
    timeout: float,
    limits: Limits,
    sandbox: Sandbox,
    network: bool,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
) -> tuple[Execution, bytes]:
    """Run a command in a folder of its own, sandboxed where that can be.

    Args:
        command: The command; paths that begin with ``FOLDER`` are the files given here.
        files: Name to content of the files it finds there.
        timeout: Seconds until it is stopped, with all that it has started.
        limits: What it may use beside.
        sandbox: See :func:`run_script`.
        network: Whether it may use the network.
        env: Environment variables beside the few that every candidate gets.
        stdin: What it reads from standard input.

    Returns:
        How it ran, and what it left in the file that ``OPTUNA_LLM_RESULT`` names.
    """
    if not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds: {timeout!r}.")
    with tempfile.TemporaryDirectory(prefix="optuna_llm-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        _lay_out(root, files)
        wrapping = wrap(
            command, root, limits=limits, seconds=timeout, sandbox=sandbox, network=network
        )
        variables = _environment(wrapping.home, wrapping.result) | dict(env or {})
        began = time.monotonic()
        code, out, err, timed_out = _watch(
            wrapping, root / "work", variables, stdin, timeout, limits.output
        )
        execution = Execution(
            returncode=code,
            stdout=out,
            stderr=err,
            seconds=time.monotonic() - began,
            timed_out=timed_out,
            contained=wrapping.contained,
            missing=wrapping.missing,
            timeout=timeout,
        )
        with open(root / "result", "rb") as file:
            return execution, file.read(limits.result + 1)


def _lay_out(root: Path, files: Mapping[str, bytes]) -> None:
    """The folders and files of a run, readable to whom the candidate will be."""
    for name, mode in (("files", 0o755), ("work", 0o777)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    for name, content in files.items():
        (root / "files" / name).write_bytes(content)
        (root / "files" / name).chmod(0o644)
    (root / "result").touch()
    (root / "result").chmod(0o666)


def _environment(home: str, result: str) -> dict[str, str]:
    """All that a candidate gets to know of the environment: no keys, no tokens."""
    variables = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    variables["HOME"] = home
    variables["PYTHONDONTWRITEBYTECODE"] = "1"
    variables["OPTUNA_LLM_RESULT"] = result
    variables[_MARK] = uuid4().hex
    if site.ENABLE_USER_SITE and site.getusersitepackages() in sys.path:
        variables["PYTHONPATH"] = site.getusersitepackages()
    return variables


def _watch(
    wrapping: Wrapping,
    cwd: Path,
    env: Mapping[str, str],
    stdin: str,
    timeout: float,
    output: int,
) -> tuple[int, str, str, bool]:
    """Exit code, both outputs, and whether the time ran out; nothing of it runs on."""
    process = subprocess.Popen(
        wrapping.command,
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    tails = [_Tail(pipe, output) for pipe in (process.stdout, process.stderr)]
    feeder = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
    feeder.start()
    # Waited for in a thread, since wait(timeout) looks only every 50 milliseconds.
    waiter = threading.Thread(target=process.wait, daemon=True)
    waiter.start()
    try:
        waiter.join(timeout)
        timed_out = waiter.is_alive()
    finally:
        _kill(process)
        if not wrapping.in_bubble:
            _kill_strays(env[_MARK])
    out, err = (tail.finish() for tail in tails)
    # A sandbox and a shell report a signal as 128 and its number.
    code = process.returncode
    return (128 - code if 128 < code < 160 else code), out, err, timed_out


def _feed(pipe: IO[bytes], text: str) -> None:
    with contextlib.suppress(OSError), pipe:
        pipe.write(text.encode("utf-8", "surrogateescape"))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and its group; with bubblewrap, all that it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _kill_strays(mark: str) -> None:
    """End what has left the process's group, which bears its mark all the same."""
    # Until twice there is none, since one may be starting another while it is looked at.
    clean = 0
    while sys.platform == "linux" and clean < 2:
        clean = 0 if _kill_marked(mark) else clean + 1


def _kill_marked(mark: str) -> bool:
    """Kill the processes that have the mark in their environment; whether there were any."""
    needle = f"{_MARK}={mark}".encode()
    found = False
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if needle in Path(f"/proc/{entry.name}/environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
                found = True
    return found


class _Tail:
    """The end of what a pipe brings; all of it is read, so that the writer is not held up."""

    def __init__(self, pipe: IO[bytes], limit: int) -> None:
        self._pipe = pipe
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._total = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._pipe.fileno(), 65_536):
                self._chunks.append(chunk)
                self._size += len(chunk)
                self._total += len(chunk)
                while self._size - len(self._chunks[0]) >= self._limit:
                    self._size -= len(self._chunks.popleft())

    def finish(self) -> str:
        """What is kept, as text; its beginning says how much is not."""
        # Whoever holds the pipe open is gone by now, or out of reach.
        self._thread.join(5)
        with contextlib.suppress(OSError):
            self._pipe.close()
        data = b"".join(tuple(self._chunks))[-self._limit :]
        text = data.decode("utf-8", "replace")
        lost = self._total - len(data)
        return f"[… {lost:,} bytes before this are left out …]\n{text}" if lost > 0 else text
