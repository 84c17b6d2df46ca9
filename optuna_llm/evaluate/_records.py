"""What a run of a candidate may use, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Literal
from typing import TypeAlias

from optuna_llm._quoting import shorten


_MAX_TOLD = 1_200

Scope: TypeAlias = Literal["tree", "process", "none"]


@dataclass(frozen=True)
class Limits:
    """What a candidate's processes may use, besides the wall time that each call names.

    Attributes:
        memory: Bytes of memory of all processes together where a control group can be made;
            elsewhere bytes of address space of each process. ``Execution.limits`` says which.
        processes: Processes and threads at a time.
        file_size: Bytes of one file; in a sandbox also of all files in ``/tmp``, in ``/dev/shm``
            and in the candidate's folder, each.
        cpu_seconds: CPU time of one process; None is the wall time on all cores.
        output: Bytes of standard output, and of standard error, that are kept: the last ones.
        result: Bytes of the values that ``run_python`` brings back.
    """

    memory: int = 4 * 1024**3
    processes: int = 256
    file_size: int = 1024**3
    cpu_seconds: int | None = None
    output: int = 100_000
    result: int = 256 * 1024**2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (isinstance(value, int) and value > 0):
                raise ValueError(f"{name} must be a whole number above 0: {value!r}.")


@dataclass(frozen=True)
class Execution:
    """How a program ran.

    Attributes:
        returncode: Its exit code; below 0 the number of the signal that ended it, as in
            ``subprocess``.
        stdout: The end of what it printed.
        stderr: The end of what it wrote to standard error.
        seconds: Wall time from its start until all of it was gone.
        timed_out: Whether it was stopped at its time limit.
        contained: Whether it ran in a sandbox that keeps every promise of ``docs/security.md``
            (or in a container that was said to be one).
        limits: Name in :class:`Limits` to what the limit holds for: "tree" is all processes
            together, "process" each on its own, "none" that it could not be set here.
        timeout: The time limit it ran with, in seconds.
    """

    returncode: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool
    contained: bool
    limits: Mapping[str, Scope] = field(default_factory=dict)
    timeout: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it came to its end in time and with exit code 0."""
        return self.returncode == 0 and not self.timed_out

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the :class:`Limits` that could not be set on this platform."""
        return tuple(name for name, scope in self.limits.items() if scope == "none")

    @property
    def feedback(self) -> str:
        """A description of the run for ``report_feedback``: its output, or why it failed."""
        said = "\n".join(part.strip() for part in (self.stdout, self.stderr) if part.strip())
        told = shorten(said, _MAX_TOLD)
        if self.timed_out:
            verdict = f"It was stopped at its time limit of {self.timeout:g} seconds."
        elif self.returncode < 0:
            verdict = f"It was killed by signal {-self.returncode}{_guess(-self.returncode)}."
        elif self.returncode:
            verdict = f"It ended with exit code {self.returncode}."
        else:
            verdict = f"It ended normally after {self.seconds:.2f} seconds."
        return f"{verdict}\n{told}".strip()


def _guess(signal: int) -> str:
    """What a signal most often means for a candidate."""
    return {
        9: ", perhaps for its memory or CPU time",
        11: ", a crash in native code",
        24: ", its limit of CPU time",
        25: ", its limit of file size",
    }.get(signal, "")
