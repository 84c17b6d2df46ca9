"""A control group for one run: memory and processes of everything it starts, together.

Resource limits hold for one process: a candidate multiplies them by forking, and they ignore
shared memory and tmpfs. Only a control group bounds the whole tree. It needs a part of the
hierarchy that this user may write to: with cgroup v2 the parent of this process's group (as in a
session of systemd's user manager, or as root), with v1 this process's own groups (as root).
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
import functools
import itertools
import os
from pathlib import Path
import re
import signal
import time

from optuna_llm.evaluate._records import Limits


_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "optuna_llm-"
_GRACE = 2.0
_numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """Where groups can be made.

    Attributes:
        folder: The group to make them in.
        version: 1 or 2.
        controllers: What of "memory" and "pids" can be limited there.
    """

    folder: Path
    version: int
    controllers: tuple[str, ...]


def find_places(root: Path = _ROOT, own: Path = Path("/proc/self/cgroup")) -> list[Place]:
    """Where this process may make groups with a limit of memory; empty where it may not.

    Args:
        root: Where the file systems of the groups are mounted.
        own: The file that names the groups of this process.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    paths = {kind: path.lstrip("/") for _, kind, path in lines}
    unified = root / paths.get("", "")
    # A group with processes in it cannot have limited groups within it, but the real root can.
    for folder in (unified.parent, unified) if paths.get("") else (unified,):
        with contextlib.suppress(OSError):
            enabled = (folder / "cgroup.subtree_control").read_text().split()
            controllers = tuple(c for c in ("memory", "pids") if c in enabled)
            if "memory" in controllers and _is_writable(folder):
                return [Place(folder, 2, controllers)]
    places = [
        Place(root / kind / paths[kind], 1, (kind,))
        for kind in ("memory", "pids")
        if kind in paths
    ]
    places = [place for place in places if _is_writable(place.folder)]
    return places if any("memory" in place.controllers for place in places) else []


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


class Group:
    """The groups of one run, made by :func:`open_group`.

    Attributes:
        controllers: What they limit, of "memory" and "pids".
        descriptors: To be inherited by a process, which writes 0 to each to join.
    """

    def __init__(self, places: list[Place], limits: Limits) -> None:
        self.controllers = tuple(c for place in places for c in place.controllers)
        self.descriptors: tuple[int, ...] = ()
        self._folders: list[Path] = []
        try:
            for place in places:
                self._make(place, limits)
        except OSError:
            self.close()
            raise

    def _make(self, place: Place, limits: Limits) -> None:
        folder = place.folder / f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
        folder.mkdir()
        self._folders.append(folder)
        for name, value in _settings(place, limits).items():
            (folder / name).write_text(value)
        for name in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            with contextlib.suppress(OSError):  # Where swap is counted at all.
                if (folder / name).exists():
                    (folder / name).write_text("0" if place.version == 2 else str(limits.memory))
        procs = os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        self.descriptors = (*self.descriptors, procs)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process for the memory of all together."""
        for folder in self._folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    if re.search(r"^oom_kill [1-9]", (folder / name).read_text(), re.MULTILINE):
                        return True
        return False

    def kill(self) -> None:
        """End all processes that are in them."""
        for folder in self._folders:
            with contextlib.suppress(OSError):
                (folder / "cgroup.kill").write_text("1")
            deadline = time.monotonic() + _GRACE
            while (pids := _read_pids(folder)) and time.monotonic() < deadline:
                for pid in pids:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.001)

    def close(self) -> None:
        """Remove them; a process that will not die keeps its group."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = ()
        for folder in self._folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _settings(place: Place, limits: Limits) -> dict[str, str]:
    memory = "memory.max" if place.version == 2 else "memory.limit_in_bytes"
    settings = {
        "memory": (memory, str(limits.memory)),
        "pids": ("pids.max", str(limits.processes + 1)),  # The launcher is one.
    }
    return dict(settings[controller] for controller in place.controllers)


def _read_pids(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


@contextlib.contextmanager
def open_group(limits: Limits, *, in_bubble: bool = False) -> Iterator[Group | None]:
    """A group with these limits, killed and removed afterwards; None if there can be none.

    Args:
        limits: The limits.
        in_bubble: Whether it is for a sandbox, in which a resource limit bounds all processes.
    """
    places = find_places()
    _remove_leftovers(tuple(places))
    if in_bubble:  # Every group that is joined takes a millisecond.
        places = [place for place in places if "memory" in place.controllers]
    group = None
    with contextlib.suppress(OSError):
        group = Group(places, limits) if places else None
    try:
        yield group
    finally:
        if group is not None:
            group.kill()
            group.close()


@functools.cache
def _remove_leftovers(places: tuple[Place, ...]) -> None:
    """Remove the empty groups of processes that were killed before they could."""
    for place in places:
        for folder in place.folder.glob(f"{_PREFIX}*-*"):
            pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
            if pid.isdigit() and not Path("/proc", pid).exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()
