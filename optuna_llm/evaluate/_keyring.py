"""The kernel's key rings, which no namespace of a sandbox separates."""

from __future__ import annotations

import ctypes
import os


_KEYCTL = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING = 1


def leave_session_keyring() -> None:
    """Give the calling thread, and what it starts, an empty session key ring of its own.

    Other threads keep theirs. Where this fails (no key rings in this kernel, or too many of them)
    the seccomp filter still keeps a candidate from using any.
    """
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None)
