"""Builds the command line of bubblewrap for one run.

A run gets new namespaces, a read-only root with what ``_visible`` lists, bounded private folders
to write to, and a seccomp filter. Started by root, the candidate becomes a user without an
account; started by anyone else, it is in a user namespace that allows no nested ones.
"""

from __future__ import annotations

from dataclasses import dataclass
import functools
import os
from pathlib import Path
import random
import re
import subprocess

from optuna_llm.evaluate import _seccomp
from optuna_llm.evaluate import _visible
from optuna_llm.evaluate._folder import Folder
from optuna_llm.evaluate._folder import is_root
from optuna_llm.evaluate._records import Limits


WORK = "/candidate"
"""The folder that a candidate starts in and finds its files in, within the sandbox."""
OURS = "/run/optuna_llm"
RESULT = "/run/result"

_STRANGERS = range(61_184, 65_520)
"""User numbers that no account has (systemd keeps them for services without one)."""

_PASSWD = "candidate:x:{uid}:{uid}::/tmp:/bin/sh\n"
_GROUP = "candidate:x:{uid}:\n"
_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


@dataclass(frozen=True)
class Means:
    """What of a sandbox this machine can do.

    Attributes:
        program: The path of bubblewrap.
        seccomp: Whether there is a filter of system calls.
        size: Whether private folders are bounded (bubblewrap 0.7 and later).
        disable_userns: Whether nested user namespaces can be turned off (0.8 and later).
    """

    program: str
    seccomp: bool
    size: bool
    disable_userns: bool

    @property
    def lacks(self) -> tuple[str, ...]:
        """What is promised and missing, in words."""
        missing = []
        if not self.seccomp:
            missing.append("no filter of system calls")
        if not self.size:
            missing.append("no bound on files in memory (bubblewrap 0.7 has it)")
        # The filter refuses new namespaces too.
        if not self.disable_userns and not self.seccomp:
            missing.append("nested user namespaces are allowed")
        return tuple(missing)


def find_means(program: str) -> Means:
    """What this bubblewrap and a machine of this kind can do, not yet tried.

    Raises:
        subprocess.SubprocessError: If it does not even say what it can do.
    """
    run = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    options = set(re.findall(r"--[a-z-]+", run.stdout + run.stderr))
    return Means(
        program=program,
        seccomp=bool(_seccomp.assemble_filter()),
        size="--size" in options,
        disable_userns="--disable-userns" in options,
    )


def build_bubble(
    folder: Folder,
    interpreter: str,
    limits: Limits,
    means: Means,
    *,
    network: bool,
    seccomp: int,
) -> tuple[list[str], int | None]:
    """The command line of bubblewrap, up to the candidate's own.

    Args:
        folder: What the candidate is handed, laid out.
        interpreter: The program that runs the candidate.
        limits: Of which the size of private folders is set here.
        means: What this bubblewrap can do.
        network: Whether the candidate may use the network.
        seccomp: The descriptor that the filter is read from.

    Returns:
        The command line, and the user that the launcher is to become; None where bubblewrap sees
        to that.
    """
    uid = random.SystemRandom().choice(_STRANGERS)
    drops = is_root() and _is_mapped(uid)
    parts = [
        *_namespaces(uid, means, drops=drops, network=network),
        # First, since a virtual environment may be in the real /tmp.
        *_private_folder("/tmp", limits, means),
        *_private_folder(WORK, limits, means),
        *_mount_system(_visible.list_mounts(interpreter, network=network)),
        *_link_names(folder, uid, network=network),
        *("--proc", "/proc", "--dev", "/dev"),
        *_private_folder("/dev/shm", limits, means),
        # A list of the kernel's keys, with the user's own by name.
        *(("--ro-bind", "/dev/null", "/proc/keys") if os.path.exists("/proc/keys") else ()),
        *_handed_over(folder),
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *(("--seccomp", str(seccomp)) if means.seccomp else ()),
        *("--chdir", WORK, "--"),
    ]
    return parts, uid if drops else None


def _is_mapped(uid: int) -> bool:
    """Whether root can become this user; in a user namespace of its own it may not."""
    ranges = [
        line.split()
        for line in Path("/proc/self/uid_map").read_text(encoding="utf-8").splitlines()
    ]
    return any(int(first) <= uid < int(first) + int(count) for first, _, count in ranges)


def _namespaces(uid: int, means: Means, *, drops: bool, network: bool) -> list[str]:
    parts = [means.program, "--die-with-parent", "--new-session", "--as-pid-1"]
    parts += ["--hostname", "localhost"]
    parts += ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
    parts += [] if network else ["--unshare-net"]
    parts += ["--cap-drop", "ALL"]
    if drops:
        # Root keeps what it takes to become another user, which the launcher does. In a user
        # namespace it would stay root to the kernel: unlimited in processes, owner of files.
        return [*parts, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    parts += ["--unshare-user", "--uid", str(uid), "--gid", str(uid)]
    return [*parts, "--disable-userns"] if means.disable_userns else parts


def _private_folder(path: str, limits: Limits, means: Means) -> list[str]:
    size = ["--size", str(limits.file_size)] if means.size else []
    return [*size, "--perms", "1777", "--tmpfs", path]


@functools.cache
def _mount_system(listed: tuple[tuple[str, _visible.Mount], ...]) -> tuple[str, ...]:
    """This Python and the system's programs, read-only."""
    mounts = dict(listed)
    parts: list[str] = []
    made = {"/"}
    for path, (kind, source) in mounts.items():
        # What bubblewrap makes on the way to a mount is for root alone.
        for parent in reversed(Path(path).parents):
            if str(parent) not in made and _visible.find_nearest(str(parent), mounts) != "bind":
                parts += ["--perms", "0755", "--dir", str(parent)]
                made.add(str(parent))
        if kind == "bind":
            parts += ["--ro-bind-try", source, path]
        elif kind == "link":
            parts += ["--symlink", source, path]
        else:
            parts += ["--perms", "0755", "--tmpfs", path]
    for path, (kind, _) in mounts.items():
        parts += ["--remount-ro", path] if kind == "hide" else []
    return tuple(parts)


def _link_names(folder: Folder, uid: int, *, network: bool) -> list[str]:
    """The names of users and machines, of which the candidate knows its own only."""
    texts = {"passwd": _PASSWD.format(uid=uid), "group": _GROUP.format(uid=uid), "hosts": _HOSTS}
    if network:
        del texts["hosts"]
    parts = []
    for name, text in texts.items():
        folder.write_ours(name, text.encode())
        parts += ["--symlink", f"{OURS}/{name}", f"/etc/{name}"]
    return parts


def _handed_over(folder: Folder) -> list[str]:
    """The candidate's files, ours, and the file for its values."""
    parts = []
    for entry in os.scandir(folder.work):
        if entry.is_symlink():
            parts += ["--symlink", os.readlink(entry.path), f"{WORK}/{entry.name}"]
        else:
            parts += ["--ro-bind", entry.path, f"{WORK}/{entry.name}"]
    for name, path in folder.links.items():
        parts += ["--ro-bind", str(path), f"{WORK}/{name}"]
    parts += ["--perms", "0755", "--dir", "/run"]
    parts += ["--ro-bind", str(folder.ours), OURS]
    return [*parts, "--bind", str(folder.result), RESULT]
