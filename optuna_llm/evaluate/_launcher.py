"""Runs as the first process of a candidate: sets its limits, then becomes the candidate.

A program of its own that imports as little as it can, since every candidate waits for it. Usage:

    launcher.py NAME=VALUE ... -- COMMAND ...

``group`` is a descriptor of a ``cgroup.procs`` to join, ``RLIMIT_*`` a limit, ``uid`` the user to
become. With ``status``, a descriptor, the candidate runs as a child and its wait status is written
there: a sandbox reports a signal as an exit code of 128 and more, which a program may also return.
The command ``harness`` runs a Python program in this process (see ``_harness.py``).
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Start the candidate."""
    end = sys.argv.index("--")
    pairs = [part.partition("=") for part in sys.argv[1:end]]
    settings = [(name, value) for name, _, value in pairs]
    command = sys.argv[end + 1 :]
    try:
        # This process too: a candidate of the same user could make it work for it.
        restrict(settings)
    except OSError as error:
        leave(f"limits cannot be set: {error}")
    status = [int(value) for name, value in settings if name == "status"]
    if not status:
        become(settings, command)
    child = os.fork()
    if child == 0:
        os.close(status[0])
        become(settings, command)
    # As the first process of its namespace it inherits the orphans.
    pid = code = 0
    while pid != child:
        pid, code = os.wait()
    os.write(status[0], b"%d" % code)
    os._exit(128 + os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code))


def restrict(settings: list[tuple[str, str]]) -> None:
    """Join groups and set limits."""
    for name, value in settings:
        if name == "group":
            os.write(int(value), b"0")
            os.close(int(value))
        elif name.startswith("RLIMIT_"):
            limit(name, int(value))


def limit(name: str, value: int) -> None:
    """Set a limit, or leave it where it is lower already."""
    import resource

    kind = getattr(resource, name)
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def become(settings: list[tuple[str, str]], command: list[str]) -> None:
    """Turn this process into the candidate; does not return."""
    try:
        for name, value in settings:
            if name == "uid":
                os.setgroups([])
                os.setresgid(int(value), int(value), int(value))
                os.setresuid(int(value), int(value), int(value))
        if command[0] == "harness":
            import harness  # type: ignore[import-not-found]

            harness.run(*command[1:])
        os.execvp(command[0], command)
    except OSError as error:
        leave(f"{error}: {command[0]}")


def leave(problem: str) -> None:
    """Exit as a shell does that cannot start a command."""
    sys.stderr.write(f"The candidate could not be started: {problem}\n")
    sys.stderr.flush()
    os._exit(127)


if __name__ == "__main__":
    main()
