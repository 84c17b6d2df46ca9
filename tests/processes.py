"""The processes of this machine."""

from __future__ import annotations

from pathlib import Path


def commands_with(mark: str) -> list[int]:
    """The processes of this machine that have a word in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
