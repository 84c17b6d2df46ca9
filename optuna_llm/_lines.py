"""Files that many processes append lines to."""

from __future__ import annotations

import os
from pathlib import Path


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, made if it is not there, readable by its owner only.

    Raises:
        OSError: If it cannot be written.
    """
    # One write to a file opened for appending is not interleaved with those of others.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    # Windows would write "\r\n" for a newline.
    file = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
    try:
        os.write(file, line.encode() + b"\n")
    finally:
        os.close(file)
