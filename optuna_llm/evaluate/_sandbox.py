"""What stands between a candidate and this machine: bubblewrap, and limits.

With bubblewrap a candidate sees the system's programs and this Python's packages, read-only; a
private ``/tmp``; no other process, no network and no other file. Run by root, it is another user
inside. Without bubblewrap there are limits only, which is no sandbox, and is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import functools
import os
from pathlib import Path
import random
import shutil
import site
import subprocess
import sys
from typing import Literal
from typing import TypeAlias

from optuna_llm._logging import get_logger
from optuna_llm.evaluate._records import Limits


_logger = get_logger(__name__)

Sandbox: TypeAlias = Literal["auto", "require", "container", "none"]

FOLDER = "/candidate"
"""Where a candidate finds its files. Outside of a sandbox it is a temporary folder."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
_SETTINGS = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/ssl",
)
_STRANGERS = range(61_184, 65_520)
"""User numbers that no account has (systemd keeps them for services without one)."""


class SandboxError(RuntimeError):
    """A sandbox was required and there is none."""


@dataclass(frozen=True)
class Wrapping:
    """How a command is to be started.

    Attributes:
        command: The command with what stands before it.
        in_bubble: Whether bubblewrap is among it.
        contained: Whether it counts as contained, in this sandbox or in the user's.
        missing: Names of the limits that cannot be set.
        home: The folder it may write to.
        result: The file it may leave values in.
    """

    command: list[str]
    in_bubble: bool
    contained: bool
    missing: tuple[str, ...]
    home: str
    result: str


def wrap(
    command: Sequence[str],
    root: Path,
    *,
    limits: Limits,
    seconds: float,
    sandbox: Sandbox,
    network: bool,
) -> Wrapping:
    """Put a command into a sandbox, or behind limits where there is none.

    Args:
        command: The command; paths that begin with ``FOLDER`` mean its own files.
        root: The folder that holds these files as ``files``, and a file ``result``.
        limits: What it may use.
        seconds: Its wall time.
        sandbox: "auto", "require", "container" or "none".
        network: Whether it may use the network.

    Raises:
        SandboxError: If a sandbox is required and there is none.
        ValueError: If ``sandbox`` is another word.
    """
    if sandbox not in ("auto", "require", "container", "none"):
        raise ValueError(f"sandbox must be auto, require, container or none: {sandbox!r}.")
    problem = find_problem() if sandbox in ("auto", "require") else ""
    if sandbox == "require" and problem:
        raise SandboxError(f"There is no sandbox: {problem}")
    if sandbox in ("auto", "require") and not problem:
        inner = _limit(limits, seconds, is_alone=True)
        full = [*_bubble(root, limits, network), *inner, *command]
        return Wrapping(full, True, True, () if inner else _ALL, "/tmp", "/result")
    if sandbox == "auto":
        _warn_once(problem)
    inner = _limit(limits, seconds, is_alone=False)
    # Nothing bounds the number of root's processes.
    missing = _ALL if not inner else ("processes",) if _is_root() else ()
    local = [part.replace(FOLDER, str(root / "files"), 1) for part in command]
    home, result = str(root / "work"), str(root / "result")
    return Wrapping([*inner, *local], False, sandbox == "container", missing, home, result)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


_ALL = ("memory", "processes", "file_size", "cpu_seconds")


@functools.cache
def find_problem() -> str:
    """Why there is no sandbox on this machine; empty where there is one."""
    if sys.platform != "linux":
        return f"bubblewrap is for Linux, and this is {sys.platform}."
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (on Debian and Ubuntu: apt install bubblewrap)."
    if _is_root() and shutil.which("setpriv") is None:
        return "as root it takes setpriv (package util-linux) to become another user inside."
    trial = subprocess.run(
        [*_namespaces(network=False), "--ro-bind", "/", "/", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"bubblewrap does not work here: {trial.stderr.strip()}" if trial.returncode else ""


@functools.cache
def _warn_once(problem: str) -> None:
    _logger.warning(
        "Candidates run without a sandbox, with limits only: %s They can read your files and "
        'use the network. sandbox="require" refuses this, sandbox="container" says that a '
        "container of yours is enough.",
        problem,
    )


def _namespaces(*, network: bool) -> list[str]:
    parts = ["bwrap", "--die-with-parent", "--new-session"]
    parts += ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
    parts += [] if network else ["--unshare-net"]
    if not _is_root():
        return [*parts, "--unshare-user", "--cap-drop", "ALL"]
    # Root keeps what it takes to become another user, which setpriv then does.
    return [*parts, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _bubble(root: Path, limits: Limits, network: bool) -> list[str]:
    parts = _namespaces(network=network)
    for system in map(Path, _SYSTEM):
        if system.is_symlink():
            parts += ["--symlink", os.readlink(system), str(system)]
        elif system.exists():
            parts += ["--ro-bind", str(system), str(system)]
    parts += ["--proc", "/proc", "--dev", "/dev"]
    if _knows_size():
        parts += ["--size", str(limits.file_size)]
    parts += ["--perms", "1777", "--tmpfs", "/tmp"]
    # After the private /tmp, since a virtual environment may be in the real one.
    for path in (*_SETTINGS, *_python_folders()):
        # What bubblewrap makes on the way to a mount is for root alone.
        for parent in reversed(Path(path).parents[:-1]):
            parts += ["--perms", "0755", "--dir", str(parent)]
        parts += ["--ro-bind-try", path, path]
    parts += ["--ro-bind", str(root / "files"), FOLDER]
    parts += ["--bind", str(root / "result"), "/result"]
    return [*parts, "--chdir", "/tmp", "--"]


def _python_folders() -> list[str]:
    """Where this Python and its packages are."""
    folders = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    folders.add(str(Path(sys.executable).resolve().parents[1]))
    if site.ENABLE_USER_SITE and site.getusersitepackages() in sys.path:
        folders.add(site.getusersitepackages())
    # What lies within /usr is there already; the whole of / never is to be.
    return sorted(f for f in folders if f != "/" and not Path(f).is_relative_to("/usr"))


@functools.cache
def _knows_size() -> bool:
    """Whether this bubblewrap can bound a private file system (0.7 and later)."""
    run = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)
    return "--size" in run.stdout + run.stderr


def _limit(limits: Limits, seconds: float, *, is_alone: bool) -> list[str]:
    """The commands that set limits and then become what follows; none where there are none.

    Args:
        limits: The limits.
        seconds: The wall time.
        is_alone: Whether it runs in namespaces of its own.
    """
    if shutil.which("prlimit") is None:
        return []
    cpu = limits.cpu_seconds or round(seconds * (os.cpu_count() or 1)) + 1
    processes = limits.processes
    if not is_alone and not _is_root():
        # This limit counts what else the user runs.
        processes += _count_tasks()
    parts = ["prlimit", f"--as={limits.memory}", f"--fsize={limits.file_size}", f"--cpu={cpu}"]
    parts += [f"--nproc={processes}", "--core=0"]
    if is_alone and _is_root():
        stranger = str(random.SystemRandom().choice(_STRANGERS))
        parts += ["setpriv", "--reuid", stranger, "--regid", stranger, "--clear-groups"]
        parts += ["--inh-caps=-all", "--no-new-privs"]
    return [*parts, "--"]


def _count_tasks() -> int:
    """Threads of this user's processes."""
    count = 0
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == os.geteuid():
                count += len(os.listdir(f"/proc/{entry.name}/task"))
        except OSError:  # It has ended meanwhile.
            continue
    return count
