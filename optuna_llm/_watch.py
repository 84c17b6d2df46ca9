"""Starts one process, feeds it, reads its output, and kills it with its group when it is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
from dataclasses import dataclass
import os
from pathlib import Path
import queue
import signal
import subprocess
import threading
from typing import IO

from optuna_llm._cancellation import current
from optuna_llm._cancellation import take_turns


@dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Attributes:
        returncode: As ``subprocess`` gives it.
        stdout: The end of its standard output.
        stderr: The end of its standard error.
        timed_out: Whether it was ended for its time.
    """

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool


def watch(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes,
    timeout: float,
    output: int,
    descriptors: Sequence[int],
    prepare: Callable[[], None],
    clear: Callable[[], None],
) -> Outcome:
    """Run a command until it ends, its time is over, or the work of this thread is cancelled.

    Args:
        command: The command.
        cwd: The folder it starts in.
        env: All of its environment.
        stdin: What it is fed.
        timeout: Seconds until it is ended.
        output: Bytes to keep of each output.
        descriptors: What it inherits besides.
        prepare: Called in the thread that starts it, whose key ring it inherits.
        clear: Called once it has ended, to end what it has left behind.

    Raises:
        OSError: If it cannot be started.
    """

    def start() -> subprocess.Popen[bytes]:
        prepare()
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=descriptors,
        )

    running = _Running(start)
    try:
        process = running.process()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        tails = [_Tail(pipe, output) for pipe in (process.stdout, process.stderr)]
        threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True).start()
        with current().watch(running.ended.set):
            timed_out = not any(map(running.ended.wait, take_turns(timeout)))
    finally:
        running.kill()
        clear()
    out, err = (tail.finish() for tail in tails)
    return Outcome(process.returncode, out, err, timed_out)


class _Running:
    """A process, with a thread that starts it and waits for it.

    The thread must live as long as the process, since ``--die-with-parent`` kills bubblewrap when
    the thread that started it exits. Unlike ``Popen.wait(timeout)``, which polls every 50
    milliseconds, the thread notices the end at once.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.ended = threading.Event()
        self._start = start
        self._started: queue.SimpleQueue[subprocess.Popen[bytes] | BaseException]
        self._started = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            process = self._start()
        except BaseException as error:  # noqa: BLE001 - raised again by process()
            self._started.put(error)
            return
        self._started.put(process)
        try:
            _wait_unreaped(process)
        finally:
            self.ended.set()

    def process(self) -> subprocess.Popen[bytes]:
        """The process, once it has been started, or why it could not be."""
        if self._process is None:
            self._process = self._started.get()
        if isinstance(self._process, BaseException):
            raise self._process
        return self._process

    def kill(self) -> None:
        """End the process and its group, and reap it."""
        try:
            process = self.process()
        except Exception:  # noqa: BLE001 - it could not be started, for whatever reason
            return
        if not hasattr(os, "killpg"):
            _kill_tree(process)
        elif process.returncode is None:
            # It has not been reaped, so its ID cannot have been reused. Popen.kill() might reap.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        self._thread.join()
        process.wait()


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children on Windows, which has no groups to kill."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(command, capture_output=True, check=False)
    process.kill()


def _wait_unreaped(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process, and leave it to be reaped where that is possible."""
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    except (AttributeError, ChildProcessError):
        # No such call on this platform, or somebody else in this process waits for all children.
        process.wait()


def _feed(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError), pipe:
        pipe.write(data)


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
