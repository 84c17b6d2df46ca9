"""What a run of a candidate may use, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from optuna_llm._quoting import shorten


_MAX_TOLD = 1_200


@dataclass(frozen=True)
class Limits:
    """What a candidate's processes may use, beside the wall time that each call names.

    Attributes:
        memory: Bytes of address space of one process.
        processes: Processes and threads at a time.
        file_size: Bytes of one file; of a private ``/tmp`` all files together.
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
        contained: Whether it ran in a sandbox (or in a container that was said to be one):
            without network, with a read-only file system and away from the user's files.
        missing: Names of the :class:`Limits` that could not be set on this platform.
        timeout: The time limit it ran with, in seconds.
    """

    returncode: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool
    contained: bool
    missing: tuple[str, ...] = ()
    timeout: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it came to its end in time and with exit code 0."""
        return self.returncode == 0 and not self.timed_out

    @property
    def feedback(self) -> str:
        """Words on the run, fit for ``report_feedback``: what it said, or why it failed."""
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
