"""Runs one job, from its temporary folder to its result."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import re
import time

from optuna_llm._strays import kill_strays
from optuna_llm._strays import MARK
from optuna_llm._watch import Outcome
from optuna_llm._watch import watch
from optuna_llm.evaluate._cgroup import Group
from optuna_llm.evaluate._cgroup import open_group
from optuna_llm.evaluate._folder import open_folder
from optuna_llm.evaluate._job import Job
from optuna_llm.evaluate._keyring import leave_session_keyring
from optuna_llm.evaluate._records import Execution
from optuna_llm.evaluate._sandbox import choose_means
from optuna_llm.evaluate._sandbox import wrap
from optuna_llm.evaluate._sandbox import Wrapping


def run_job(job: Job) -> tuple[Execution, bytes]:
    """Run a job in a folder of its own, sandboxed where that can be.

    Returns:
        How it ran, and what it left as its result, up to one byte more than the limit.

    Raises:
        SandboxError: If a sandbox is required and there is none.
    """
    means = choose_means(job.sandbox)
    contained = job.sandbox == "container" or (means is not None and not means.lacks)
    began = time.monotonic()
    try:
        with (
            open_folder() as folder,
            open_group(job.limits, in_bubble=means is not None) as group,
            _pipe() as (status, report),
        ):
            folder.lay_out(job, copy=means is None)
            with wrap(job, folder, means, group, report) as wrapping:
                outcome = _watch(job, wrapping, group)
            execution = Execution(
                returncode=_find_returncode(outcome, wrapping, status),
                stdout=outcome.stdout,
                stderr=outcome.stderr + _explain(group, job),
                seconds=time.monotonic() - began,
                timed_out=outcome.timed_out,
                contained=contained,
                limits=wrapping.limits,
                timeout=job.timeout,
            )
            return execution, folder.read_result(job.limits.result)
    except OSError as error:
        # The machine's fault, such as a full disk; still a value, not an exception.
        said = f"The run could not be set up: {error}"
        seconds = time.monotonic() - began
        return Execution(1, "", said, seconds, False, contained, {}, job.timeout), b""


def _watch(job: Job, wrapping: Wrapping, group: Group | None) -> Outcome:
    env = wrapping.environment

    def clear() -> None:
        if group is not None:
            group.kill()
        elif not wrapping.in_bubble:
            kill_strays(env[MARK])

    return watch(
        wrapping.command,
        cwd=wrapping.cwd,
        env=env,
        stdin=job.stdin,
        timeout=job.timeout,
        output=job.limits.output,
        descriptors=wrapping.descriptors,
        prepare=leave_session_keyring if wrapping.in_bubble else lambda: None,
        clear=clear,
    )


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose reading never waits."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def _find_returncode(outcome: Outcome, wrapping: Wrapping, status: int) -> int:
    """The exit code, or below 0 the signal; from the launcher where there is a sandbox."""
    code = outcome.returncode
    if not wrapping.in_bubble or outcome.timed_out:
        return code
    with contextlib.suppress(BlockingIOError):
        if match := re.fullmatch(rb"\d{1,5}", os.read(status, 64)):
            return os.waitstatus_to_exitcode(int(match[0]))
    # The launcher itself was killed, for which bubblewrap's way is 128 and the signal.
    return 128 - code if 128 < code < 160 else code


def _explain(group: Group | None, job: Job) -> str:
    if group is None or not group.ran_out_of_memory():
        return ""
    return (
        f"\nKilled: its processes together took more than {job.limits.memory:,} bytes of memory.\n"
    )
