"""The filter of system calls, run on a machine made here and on this one."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from optuna_llm.evaluate import run_script
from optuna_llm.evaluate._seccomp import assemble_filter


ALLOWED = 0x7FFF0000
X86_64, AARCH64 = 0xC000003E, 0xC00000B7


def judge(machine: str, architecture: int, number: int, *arguments: int) -> str:
    """What the filter says to a call: "allowed" or the name of an error."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    code = assemble_filter(machine)
    steps = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    accumulator = at = 0
    while True:
        operation, if_true, if_false, value = steps[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return "allowed" if value == ALLOWED else errno.errorcode[value & 0xFFFF]
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x45: bool(accumulator & value),
            }[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize(
    ("call", "x86_64", "aarch64", "arguments", "verdict"),
    [
        ("read", 0, 63, (), "allowed"),
        ("execve", 59, 221, (), "allowed"),
        ("exit_group", 231, 94, (), "allowed"),
        ("fork by clone", 56, 220, (17,), "allowed"),
        ("thread by clone", 56, 220, (0x3D0F00,), "allowed"),
        ("new user namespace by clone", 56, 220, (0x10000011,), "EPERM"),
        ("new mount namespace by clone", 56, 220, (0x00020011,), "EPERM"),
        ("clone3", 435, 435, (), "ENOSYS"),
        ("unshare", 272, 97, (0,), "EPERM"),
        ("keyctl", 250, 219, (), "EPERM"),
        ("add_key", 248, 217, (), "EPERM"),
        ("bpf", 321, 280, (), "EPERM"),
        ("perf_event_open", 298, 241, (), "EPERM"),
        ("ptrace", 101, 117, (), "EPERM"),
        ("io_uring_setup", 425, 425, (), "ENOSYS"),
        ("memfd_create", 319, 279, (), "ENOSYS"),
        ("personality to ask", 135, 92, (0xFFFFFFFF,), "allowed"),
        ("personality to set", 135, 92, (0x40000,), "EPERM"),
        ("ioctl TCGETS", 16, 29, (0, 0x5401), "allowed"),
        ("ioctl TIOCSTI", 16, 29, (0, 0x5412), "EPERM"),
        ("ioctl TIOCSTI with high bits", 16, 29, (0, 0x1_0000_5412), "EPERM"),
        ("UNIX socket", 41, 198, (1,), "allowed"),
        ("IPv6 socket", 41, 198, (10,), "allowed"),
        ("vsock socket", 41, 198, (40,), "EAFNOSUPPORT"),
        ("ALG socket", 41, 198, (38,), "EAFNOSUPPORT"),
        ("vsock pair", 53, 199, (40,), "EAFNOSUPPORT"),
        ("a call of a kernel to come", 600, 600, (), "ENOSYS"),
    ],
)
def test_each_call_gets_its_verdict_on_both_machines(
    call: str, x86_64: int, aarch64: int, arguments: tuple[int, ...], verdict: str
) -> None:
    assert judge("x86_64", X86_64, x86_64, *arguments) == verdict
    assert judge("aarch64", AARCH64, aarch64, *arguments) == verdict


def test_calls_in_another_convention_do_not_exist() -> None:
    assert judge("x86_64", 0x40000003, 20) == "ENOSYS"  # getpid of 32 bits
    assert judge("x86_64", X86_64, 0x40000000 | 39) == "ENOSYS"  # getpid of x32
    assert judge("aarch64", X86_64, 39) == "ENOSYS"


def test_there_is_no_filter_for_a_machine_whose_calls_are_not_known() -> None:
    assert assemble_filter("riscv64") == b""


# Attempts by their outcome without a filter: what they would do, or another error.
ATTEMPTS = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, call):
    try:
        done = call()
        error = ctypes.get_errno() if isinstance(done, int) and done < 0 else 0
    except OSError as failure:
        error = failure.errno
    print(name, os.strerror(error))
attempt("namespace", lambda: libc.unshare(0x10000000))
attempt("trace", lambda: libc.ptrace(0, 0, None, None))
attempt("memfd", lambda: libc.memfd_create(b"m", 0))
attempt("shm", lambda: libc.shmget(0, 4096, 0o1600))
attempt("vsock", lambda: socket.socket(40, 1, 0))
attempt("log", lambda: libc.klogctl(3, None, 0))
print("status", *(l for l in open("/proc/self/status") if l.startswith(("NoNew", "CapEff"))))
"""


@pytest.mark.usefixtures("bubblewrap")
@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="no filter there")
def test_the_kernel_enforces_the_filter() -> None:
    execution = run_script(ATTEMPTS, timeout=20, sandbox="require")
    assert execution.stderr == ""
    verdicts = dict(line.split(" ", 1) for line in execution.stdout.splitlines()[:6])
    refused = "Operation not permitted"
    assert verdicts.pop("memfd") == "Function not implemented"
    assert verdicts.pop("vsock") == "Address family not supported by protocol"
    assert {verdicts[name] for name in ("namespace", "trace", "shm", "log")} == {refused}
    assert "NoNewPrivs:\t1" in execution.stdout
    assert "CapEff:\t0000000000000000" in execution.stdout
