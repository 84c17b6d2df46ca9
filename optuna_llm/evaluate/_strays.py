"""Finding and ending what a candidate has started, where no sandbox ends with it.

Every process of a run has a mark in its environment, so that one which has left its session is
found. A candidate that means to can take the mark off: this is tidiness, not containment.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import signal
import sys
import time


MARK = "OPTUNA_LLM_CANDIDATE"
_GRACE = 5.0


def kill_strays(mark: str) -> None:
    """End the processes that bear a mark."""
    if sys.platform != "linux":
        return
    # Until twice there is none, since one may be starting another while it is looked at.
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
                # Looked at again, since until it was opened it may have become another.
                if needle in environ.read_bytes():
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    found = True
            finally:
                os.close(process)
    return found
