"""Chooses between a sandbox and mere limits, and builds the command for either.

With bubblewrap, a candidate sees only what ``_visible`` lists and what it is handed, and has no
network. Without it there are only limits; that is not a sandbox, and a warning says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
from dataclasses import dataclass
from dataclasses import replace
import logging
import os
from pathlib import Path
import shutil
import subprocess
import sys
from uuid import uuid4

from optuna_llm._logging import get_logger
from optuna_llm._strays import MARK
from optuna_llm.evaluate import _bubble
from optuna_llm.evaluate import _seccomp
from optuna_llm.evaluate._bubble import Means
from optuna_llm.evaluate._cgroup import Group
from optuna_llm.evaluate._environment import make_environment
from optuna_llm.evaluate._folder import Folder
from optuna_llm.evaluate._folder import open_folder
from optuna_llm.evaluate._job import Job
from optuna_llm.evaluate._job import PROGRAM
from optuna_llm.evaluate._limits import launch
from optuna_llm.evaluate._limits import scope_limits
from optuna_llm.evaluate._records import Limits
from optuna_llm.evaluate._records import Scope
from optuna_llm.evaluate._visible import clean_path


_logger = get_logger(__name__)


class SandboxError(RuntimeError):
    """A sandbox was required and there is none."""


@dataclass(frozen=True)
class Wrapping:
    """How a job is to be started.

    Attributes:
        command: The whole command.
        in_bubble: Whether bubblewrap is among it.
        cwd: The folder to start it in.
        environment: All of its environment variables.
        limits: What each limit holds for.
        descriptors: To be inherited by the command.
    """

    command: list[str]
    in_bubble: bool
    cwd: Path
    environment: Mapping[str, str]
    limits: Mapping[str, Scope]
    descriptors: tuple[int, ...]


def choose_means(sandbox: str) -> Means | None:
    """What the sandbox to use consists of; None for limits only.

    Raises:
        SandboxError: If a sandbox is required, and it is not there in full.
    """
    if sandbox in ("container", "none"):
        return None
    problem, means = _find()
    if sandbox == "require" and problem:
        raise SandboxError(f"There is no sandbox: {problem}")
    if problem:
        _warn_once(problem, means)
    return means


@contextlib.contextmanager
def wrap(
    job: Job, folder: Folder, means: Means | None, group: Group | None, status: int
) -> Iterator[Wrapping]:
    """Put a job into a sandbox, or behind limits only.

    Args:
        job: The job.
        folder: Its folder, laid out.
        means: What the sandbox consists of; None for limits only.
        group: The control group that it is to join.
        status: The descriptor that a sandboxed candidate's wait status is written to.
    """
    python = clean_path(sys.executable or "python3")
    descriptors = group.descriptors if group else ()
    scopes = scope_limits(means, group)
    if means is None:
        command = _command(job, str(folder.work), str(folder.ours), str(folder.result))
        environment = make_environment(job, str(folder.work), str(folder.result), scopes)
        launcher = launch(python, str(folder.ours), job, group, in_bubble=False)
        yield Wrapping(
            command=[*launcher, *command],
            in_bubble=False,
            cwd=folder.work,
            environment=environment | {MARK: uuid4().hex},
            limits=scopes,
            descriptors=descriptors,
        )
        return
    command = _command(job, _bubble.WORK, _bubble.OURS, _bubble.RESULT)
    with _filter(means) as seccomp:
        interpreter = job.interpreter[0] if job.interpreter else python
        bubble, uid = _bubble.build_bubble(
            folder, interpreter, job.limits, means, network=job.network, seccomp=seccomp
        )
        launcher = launch(python, _bubble.OURS, job, group, in_bubble=True, status=status, uid=uid)
        yield Wrapping(
            command=[*bubble, *launcher, *command],
            in_bubble=True,
            cwd=folder.root,
            environment=make_environment(job, "/tmp", _bubble.RESULT, scopes),
            limits=scopes,
            descriptors=(*descriptors, status, *((seccomp,) if means.seccomp else ())),
        )


def _command(job: Job, work: str, ours: str, result: str) -> Sequence[str]:
    program = os.path.join(work, PROGRAM)
    if not job.interpreter:
        variables = () if job.inputs is None else (os.path.join(ours, "inputs"), result)
        return ["harness", program, *variables]
    first = shutil.which(job.interpreter[0])
    first = clean_path(first) if first else job.interpreter[0]
    return [first, *job.interpreter[1:], program]


@contextlib.contextmanager
def _filter(means: Means) -> Iterator[int]:
    """A descriptor that the filter of system calls can be read from."""
    if not means.seccomp:
        yield -1
        return
    reading, writing = os.pipe()
    try:
        # It fits into a pipe.
        os.write(writing, _seccomp.assemble_filter())
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def find_problem() -> str:
    """Why this machine has no sandbox, or what its sandbox lacks; empty if it is complete."""
    return _find()[0]


_found: Means | None = None


def _find() -> tuple[str, Means | None]:
    """What is wrong with the sandbox, and which sandbox can be used nevertheless.

    Only success is cached: a probe can fail because memory or processes are short for a moment.
    """
    global _found
    if _found is not None:
        return _name_lacks(_found), _found
    if sys.platform != "linux":
        return f"bubblewrap is for Linux, and this is {sys.platform}.", None
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed (on Debian and Ubuntu: apt install bubblewrap).", None
    try:
        means = _bubble.find_means(os.path.abspath(program))
    except (OSError, subprocess.SubprocessError) as error:
        return f"bubblewrap does not work here: {error}", None
    problem = _try_out(means) and _try_out(means)
    if not problem:
        _found = means
        return _name_lacks(means), means
    # Installed setuid, bubblewrap cannot turn off what the filter refuses all the same.
    for weaker in (replace(means, disable_userns=False), replace(means, seccomp=False)):
        if weaker != means and not _try_out(weaker):
            return _name_lacks(weaker), weaker
    return f"bubblewrap does not work here: {problem}", None


def _name_lacks(means: Means) -> str:
    return f"it is incomplete: {', '.join(means.lacks)}." if means.lacks else ""


def _try_out(means: Means) -> str:
    """Why a probe in such a sandbox fails; empty if it succeeds."""
    python = (clean_path(sys.executable), "-I", "-S")
    job = Job(b"", python, 60.0, Limits(), "require", False, {})
    reading, writing = os.pipe()
    try:
        with open_folder() as folder:
            folder.lay_out(job, copy=False)
            with wrap(job, folder, means, None, writing) as wrapping:
                run = subprocess.run(
                    wrapping.command,
                    pass_fds=wrapping.descriptors,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    env=dict(wrapping.environment),
                    timeout=60,
                    check=False,
                )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        os.close(reading)
        os.close(writing)
    said = run.stderr.decode("utf-8", "replace").strip()
    return said or f"exit code {run.returncode}" if run.returncode else ""


_warned: set[str] = set()


def _warn_once(problem: str, means: Means | None) -> None:
    """Warn once; a warning that the log level suppresses does not count."""
    if problem in _warned or not _logger.isEnabledFor(logging.WARNING):
        return
    _warned.add(problem)
    if means is None:
        _logger.warning(
            "Candidates run without a sandbox, with limits only: %s They can read your files and "
            'use the network. sandbox="require" refuses this, sandbox="container" says that a '
            "container of yours is enough.",
            problem,
        )
    else:
        _logger.warning("The sandbox does not keep all that it promises: %s", problem)
