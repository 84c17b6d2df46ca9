"""The property tests, with as many examples as five minutes allow. Run by hand:

python tests/fuzz.py [EXAMPLES] [SECONDS]
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
import inspect
from pathlib import Path
import sys
import time
from typing import Any

from hypothesis import HealthCheck
from hypothesis import is_hypothesis_test
from hypothesis import settings


TESTS = Path(__file__).parent
BATCH = 200


def find_properties() -> list[Any]:
    """All tests whose arguments hypothesis makes, and makes all of."""
    paths = [path for path in sorted(TESTS.rglob("test_*.py")) if "@given" in path.read_text()]
    sys.path[:0] = [str(TESTS), *{str(path.parent) for path in paths}]
    names = {
        name: value
        for path in paths
        for name, value in vars(import_module(path.stem)).items()
        if is_hypothesis_test(value) and not inspect.signature(value).parameters
    }
    return list(names.values())


def main(examples: int = 200_000, seconds: float = 300) -> None:
    """Run the properties in turn until either limit; an example that fails is raised."""
    profile = settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    tests = [profile(test) for test in find_properties()]
    began = time.monotonic()
    done: Counter[str] = Counter()
    while done.total() < examples:
        for test in tests:
            if time.monotonic() - began > seconds:
                break
            test()
            done[test.__name__] += BATCH
        else:
            continue
        break
    for name, count in done.items():
        print(f"{count:8,} {name}")
    print(f"{done.total():8,} examples in {time.monotonic() - began:.0f} seconds, none failed")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
