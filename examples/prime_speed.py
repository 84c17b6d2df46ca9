"""Speed: make is_prime(n) as fast as possible while it stays correct.

OPTUNA_LLM_MODEL names the model; "offline" is a rule-based stand-in.
"""

import math
import random

from optuna_llm.evaluate import run_python
from optuna_llm.optimize import Result
from optuna_llm.optimize import run


START = """\
def is_prime(n):
    if n < 2:
        return False
    for d in range(2, n):
        if n % d == 0:
            return False
    return True
"""
CHECK = "answers = [bool(is_prime(n)) for n in numbers]"
TIME = """\
import timeit

seconds = timeit.timeit("is_prime(21269); is_prime(21270)", globals=globals(), number=10_000)
"""


def is_really_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def score(code: str) -> tuple[float, str]:
    # A program must be right before its time counts. Some numbers are new each time, so that a
    # table of answers does not pass.
    numbers = [*range(3000), 21269, 21270, *random.sample(range(3000, 100_000), 300)]
    checked = run_python(
        f"{code}\n{CHECK}", inputs={"numbers": numbers}, outputs=["answers"], timeout=60
    )
    if not checked.ok:
        raise RuntimeError(checked.feedback)
    for n, answer in zip(numbers, checked.values["answers"], strict=True):
        if answer != is_really_prime(n):
            raise ValueError(f"is_prime({n}) gives {answer}")
    timed = run_python(f"{code}\n{TIME}", outputs=["seconds"], timeout=60)
    if not timed.ok:
        raise RuntimeError(timed.feedback)
    seconds = timed.values["seconds"]
    return -math.log10(seconds), f"Right, and 20,000 calls took {seconds:.3g} seconds."


def main(max_steps: int = 6, **arguments: object) -> Result:
    result = run(
        "Make a function fast.",
        "Python code that defines is_prime(n): whether the int n is a prime. Timed are 10,000 "
        "calls on 21269 and on 21270 each. One wrong answer and the program fails.",
        score,
        START,
        max_steps=max_steps,
        language="python",
        **arguments,
    )
    best_score, _, best_x = result
    if best_score is None:
        raise SystemExit("\nNo program was right: the reasons are above.")
    print(f"\n{best_score:.2f}, 20,000 calls in {10**-best_score:.3g} seconds:\n{best_x}")
    return result


if __name__ == "__main__":
    main()
