"""The system calls that a candidate may not use, as a seccomp filter.

A list of refusals, like Flatpak's and Docker's: a candidate may be any program, so what ordinary
programs call has to work. Refused are the calls that reach kernel state which no namespace
separates (key rings, BPF, perf, io_uring, vsock), that make new namespaces or mounts, that trace
other processes, that administer the machine, and that get memory past the limit of a process.

The filter is assembled here rather than by libseccomp, whose Python binding is not on PyPI: the
calls form a list without conditions but for four arguments. Sources: Flatpak's
``flatpak-run-sandbox``, nsjail's example policies, Docker's default profile.
"""

from __future__ import annotations

import errno
import functools
import os
import struct


# Call -> its number on x86_64 and on aarch64; None where there is no such call.
_REFUSED: dict[str, tuple[int, int | None]] = {
    # The kernel's key rings: a session's is inherited by whatever is started in it.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # Large parts of the kernel that programs rarely need and that broke often.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    # Other processes, be they the candidate's own.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    # Namespaces and mounts.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # The machine.
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "uselib": (134, None),
    # Memory that counts for no process. POSIX semaphores and shared memory are in /dev/shm.
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
}
# These "do not exist", so that libraries take their other way.
_ABSENT: dict[str, tuple[int, int | None]] = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    # Its flags are in memory, where a filter cannot see them; the C library falls back to clone.
    "clone3": (435, 435),
}
_CLONE = (56, 220)
_IOCTL = (16, 29)
_PERSONALITY = (135, 92)
_SOCKETS = ((41, 53), (198, 199))
# A call of a later kernel than this list is of.
_LAST_KNOWN = 469

_NEW_NAMESPACES = 0x7E02_0000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
# Unspecified, UNIX, IPv4, IPv6, netlink: not vsock, packet, ALG, Bluetooth, ...
_FAMILIES = (0, 1, 2, 10, 16)

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000

_Step = tuple[int, int, int, int]


@functools.cache
def assemble_filter(machine: str = "") -> bytes:
    """The filter as bubblewrap takes it; empty for a machine whose calls are not known.

    Args:
        machine: As ``os.uname().machine`` says; this machine's by default.
    """
    machine = machine or os.uname().machine
    if machine not in _ARCHITECTURES:
        return b""
    column, architecture = _ARCHITECTURES[machine]
    steps: list[_Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        # Calls in another convention (32 bits, x32) have other numbers.
        (_EQUAL, 1, 0, architecture),
        _fail(errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER, 0, 1, _LAST_KNOWN),
        _fail(errno.ENOSYS),
    ]
    for calls, error in ((_REFUSED, errno.EPERM), (_ABSENT, errno.ENOSYS)):
        for numbers in calls.values():
            if (number := numbers[column]) is not None:
                steps += [(_EQUAL, 0, 1, number), _fail(error)]
    steps += _check(_CLONE[column], 0, [(_ANY_BIT, 0, 1, _NEW_NAMESPACES), _fail(errno.EPERM)])
    for request in (_TIOCSTI, _TIOCLINUX):
        steps += _check(_IOCTL[column], 1, [(_EQUAL, 0, 1, request), _fail(errno.EPERM)])
    steps += _check(_PERSONALITY[column], 0, [*_allow(0, 0xFFFF_FFFF), _fail(errno.EPERM)])
    for number in _SOCKETS[column]:
        steps += _check(number, 0, [*_allow(*_FAMILIES), _fail(errno.EAFNOSUPPORT)])
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _fail(error: int) -> _Step:
    return (_RETURN, 0, 0, _FAIL | error)


def _allow(*values: int) -> list[_Step]:
    steps: list[_Step] = []
    for value in values:
        steps += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return steps


def _check(number: int, argument: int, inner: list[_Step]) -> list[_Step]:
    """Steps that look at the low half of an argument of one call."""
    body = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), *inner, (_LOAD, 0, 0, _NUMBER)]
    return [(_EQUAL, 0, len(body), number), *body]
