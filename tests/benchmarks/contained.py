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


def measure(run: Callable[[], object]) -> float:
    """Milliseconds of one run, the median of many after one that warms up."""
    run()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.py"
        path.write_text(SCRIPT)
        bare = measure(lambda: subprocess.run([sys.executable, path], capture_output=True))
    runs: dict[str, Callable[[], object]] = {
        "run_script, in a sandbox": lambda: run_script(SCRIPT, timeout=30, sandbox="require"),
        "run_script, limits only": lambda: run_script(SCRIPT, timeout=30, sandbox="none"),
        "run_python, in a sandbox": lambda: run_python(SCRIPT, timeout=30, sandbox="require"),
    }
    print(f"{'a bare subprocess.run':28}{bare:8.1f} ms")
    for name, run in runs.items():
        taken = measure(run)
        print(f"{name:28}{taken:8.1f} ms {taken - bare:+8.1f} ms")


if __name__ == "__main__":
    main()
