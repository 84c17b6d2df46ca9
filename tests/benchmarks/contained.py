"""What a sandbox adds to a run: ``run_script`` against a bare ``subprocess.run``.

Prints milliseconds of the same script, median. Run by hand:

    python tests/benchmarks/contained.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile
import time

from optuna_llm.evaluate import run_python
from optuna_llm.evaluate import run_script


SCRIPT = "print(sum(range(1000)))"
REPEATS = 40


def measure(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each run, the median of many that take turns, so that noise hits all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    # The first of each warms up.
    return {name: statistics.median(taken[1:]) * 1_000 for name, taken in times.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.py"
        path.write_text(SCRIPT)
        bare = "a bare subprocess.run"
        taken = measure(
            {
                bare: lambda: subprocess.run([sys.executable, path], capture_output=True),
                "run_script, in a sandbox": lambda: run_script(
                    SCRIPT, timeout=30, sandbox="require"
                ),
                "run_script, limits only": lambda: run_script(SCRIPT, timeout=30, sandbox="none"),
                "run_python, in a sandbox": lambda: run_python(
                    SCRIPT, timeout=30, sandbox="require"
                ),
            }
        )
    limits = run_script(SCRIPT, timeout=30, sandbox="require").limits
    print(f"limits hold for: {', '.join(f'{name} {scope}' for name, scope in limits.items())}")
    for name, milliseconds in taken.items():
        print(f"{name:28}{milliseconds:8.1f} ms {milliseconds - taken[bare]:+8.1f} ms")


if __name__ == "__main__":
    main()
