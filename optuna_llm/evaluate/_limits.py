"""Which limit is set by which means, and what it then holds for."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import os
import re
import sys

from optuna_llm.evaluate._bubble import Means
from optuna_llm.evaluate._cgroup import Group
from optuna_llm.evaluate._folder import is_root
from optuna_llm.evaluate._job import Job
from optuna_llm.evaluate._records import Limits
from optuna_llm.evaluate._records import Scope


# What a thread of a numeric library reserves of a process's address space, about.
_THREAD_BYTES = 128 * 1024**2


def scope_limits(means: Means | None, group: Group | None) -> dict[str, Scope]:
    """Name of a limit to what it holds for.

    Args:
        means: What the sandbox consists of; None for limits only.
        group: The control group, if there is one.
    """
    if os.name != "posix":
        return dict.fromkeys(("memory", "processes", "file_size", "cpu_seconds"), "none")
    controllers = group.controllers if group else ()
    memory: Scope = "tree" if "memory" in controllers else "process"
    if memory == "process" and sys.platform == "darwin":
        memory = "none"  # It knows the limit, and does not keep it.
    # The kernel does not count root's processes; in a sandbox root has become somebody else.
    counted = "pids" in controllers or means is not None or not is_root()
    return {
        "memory": memory,
        "processes": "tree" if counted else "none",
        "file_size": "tree" if means is not None and means.size else "process",
        "cpu_seconds": "process",
    }


def launch(
    python: str,
    ours: str,
    job: Job,
    group: Group | None,
    *,
    in_bubble: bool,
    status: int = -1,
    uid: int | None = None,
) -> list[str]:
    """The command of the launcher, up to the candidate's own.

    Args:
        python: The Python to run it.
        ours: The folder it is in, as it is seen there.
        job: The job.
        group: The control group that the candidate is to join.
        in_bubble: Whether that is in a sandbox.
        status: See :func:`wrap`.
        uid: The user to become.
    """
    # The harness runs in this process, so it needs the packages that a candidate has.
    isolated = ("-I", "-S") if job.interpreter else ()
    command = [python, *isolated, os.path.join(ours, "launcher.pyc")]
    if os.name != "posix":
        return [*command, "--"]
    settings = [f"group={descriptor}" for descriptor in (group.descriptors if group else ())]
    settings += [f"{name}={value}" for name, value in _rlimits(job, group, in_bubble).items()]
    settings += [f"status={status}"] if in_bubble else []
    settings += [f"uid={uid}"] if uid is not None else []
    return [*command, *settings, "--"]


def _rlimits(job: Job, group: Group | None, in_bubble: bool) -> Mapping[str, int]:
    limits = job.limits
    cpus = os.cpu_count() or 1
    rlimits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": limits.file_size,
        "RLIMIT_CPU": limits.cpu_seconds or round(job.timeout * cpus) + 1,
        "RLIMIT_NPROC": limits.processes + _count_others(in_bubble),
    }
    if sys.platform == "darwin":
        return rlimits
    if group is not None and "memory" in group.controllers:
        # The group bounds memory. This one turns what can be known before into a MemoryError,
        # and leaves address space that is only reserved alone.
        return rlimits | {"RLIMIT_DATA": limits.memory}
    return rlimits | {"RLIMIT_AS": limits.memory}


def _count_others(in_bubble: bool) -> int:
    """Tasks that count against the candidate's limit of processes and are not its own."""
    if is_root() or sys.platform != "linux":
        return 0
    # From Linux 5.14 on a user namespace counts by itself; in it there is the launcher.
    version = [int(part) for part in re.findall(r"\d+", os.uname().release)[:2]]
    if in_bubble and version >= [5, 14]:
        return 1
    count = 1
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            if entry.name.isdigit() and entry.stat().st_uid == os.geteuid():
                count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count


def count_threads(limits: Limits) -> int:
    """How many threads a numeric library can start within the limits."""
    cpus = os.cpu_count() or 1
    return max(1, min(cpus, limits.processes // 2, limits.memory // _THREAD_BYTES))
