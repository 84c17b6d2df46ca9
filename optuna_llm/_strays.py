"""Finds and kills the processes that a program left behind, where there is no sandbox.

Every process of a run carries a mark in its environment, so it is found even in a session of its
own. A hostile program can remove the mark: this is tidying up, not containment.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import signal
import sys
import time


MARK = "OPTUNA_LLM_RUN"
_GRACE = 5.0


def kill_strays(mark: str) -> None:
    """Kill the processes that carry a mark."""
    if sys.platform != "linux":
        return
    # Until two scans in a row find none, since a process may fork during a scan.
    clean = 0
    deadline = time.monotonic() + _GRACE
    while clean < 2 and time.monotonic() < deadline:
        clean = 0 if _kill_marked(mark) else clean + 1


def _kill_marked(mark: str) -> bool:
    """Kill the processes with the mark; whether there were any."""
    needle = f"{MARK}={mark}".encode()
    found = False
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            environ = Path(entry.path, "environ")
            if needle not in environ.read_bytes():
                continue
            process = os.pidfd_open(int(entry.name))
            try:
                # Checked again: before it was opened, its ID may have been reused.
                if needle in environ.read_bytes():
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    found = True
            finally:
                os.close(process)
    return found
