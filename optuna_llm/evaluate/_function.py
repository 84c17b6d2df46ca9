"""Running a function of the user's own with a time limit that holds."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import math
import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
import os
import pickle
import signal
import sys
import time
import traceback
from typing import Any
from typing import TypeVar


_T = TypeVar("_T")


def run_function(function: Callable[..., _T], *args: Any, timeout: float) -> _T:
    """Call a function in a process of its own, and end it when its time is over.

    So an objective that hangs costs one trial, not the study:

    .. code-block:: python

        def objective(trial):
            return run_function(simulate, trial.suggest_float("x", 0, 1), timeout=600)

        study.optimize(objective, n_trials=100, catch=TimeoutError)

    This is for code that you trust: it runs with all that you may do. The process is a fresh
    interpreter, so the function must be found there: one of a module, or, with cloudpickle
    installed, any. A script that calls this needs the usual ``if __name__ == "__main__":``.

    Args:
        function: The function; keywords can be bound with ``functools.partial``.
        args: Its arguments.
        timeout: Seconds of wall time after which it is ended with the processes it has started,
            a few tenths of which the start of the process takes.

    Returns:
        What the function returns.

    Raises:
        TimeoutError: If it has not returned in time.
        RuntimeError: If its process ended without a word, as in a crash of native code.
        Exception: Whatever the function raises.
    """
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout must be above 0 seconds, and finite: {timeout!r}.")
    deadline = time.monotonic() + timeout
    call = _pickle((function, args))
    reading, writing = _context().Pipe(duplex=False)
    process = _context().Process(target=_serve, args=(writing, call))
    try:
        process.start()
        writing.close()
        ready = wait([reading, process.sentinel], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"The function was ended at its time limit of {timeout:g} seconds.")
        try:
            # What it has said before its end is still there.
            said = reading.recv_bytes() if reading.poll() else b""
        except EOFError:
            said = b""
        if not said:
            process.join()
            raise RuntimeError(f"The function's process {_tell_end(process.exitcode)}.")
    finally:
        _end(process)
        reading.close()
        writing.close()
    answer, error, trace = pickle.loads(said)
    if error is not None:
        raise error from RuntimeError(trace)
    result: _T = answer
    return result


def _context() -> Any:
    # Forking a process with threads (clients, the sampler's own) can leave it locked for ever.
    return multiprocessing.get_context("spawn")


def _pickle(value: object) -> bytes:
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return pickle.dumps(value)
    data: bytes = cloudpickle.dumps(value)
    return data


def _serve(connection: Connection, call: bytes) -> None:
    """Answer one call, in the new process."""
    if hasattr(os, "setsid"):
        os.setsid()  # Its children are ended with it.
    try:
        function, args = pickle.loads(call)
        data = _pickle((function(*args), None, ""))
    except BaseException as error:  # noqa: BLE001 - raised again in the caller's process
        data = _pickle_error(error)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # It may be ended as soon as it has answered.
    connection.send_bytes(data)


def _pickle_error(error: BaseException) -> bytes:
    trace = "".join(traceback.format_exception(error))
    try:
        data = _pickle((None, error, trace))
        pickle.loads(data)
    except Exception:  # noqa: BLE001 - the exception's own code runs here
        data = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), trace))
    return data


def _end(process: SpawnProcess) -> None:
    """End the process, and the group that it leads, and reap it."""
    if process.pid is None:
        return
    if hasattr(os, "killpg") and process.exitcode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    process.close()


def _tell_end(code: int | None) -> str:
    return f"was killed by signal {-code}" if code and code < 0 else f"ended with exit code {code}"
