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
    for d in range(2, int(n**0.5) + 1):
        if n % d == 0:
            return False
    return True
"""
CALLS = "answers = [bool(is_prime(n)) for n in numbers]"
LIMIT = 10**9


def is_really_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def score(code: str) -> tuple[float, str]:
    # Most numbers are new each time, so that a table of answers does not pass. The answers that
    # are timed are the ones that are checked, and the clock is this process's, which no program
    # can reach.
    numbers = [*range(1000), *(random.randrange(LIMIT) for _ in range(5000))]
    timed = run_python(
        f"{code}\n{CALLS}", inputs={"numbers": numbers}, outputs=["answers"], timeout=60
    )
    if not timed.ok:
        raise RuntimeError(timed.feedback)
    for n, answer in zip(numbers, timed.values["answers"], strict=True):
        if answer != is_really_prime(n):
            raise ValueError(f"is_prime({n}) gives {answer}")
    return -math.log10(timed.seconds), f"Right, and it took {timed.seconds:.3g} seconds in all."


def main(max_steps: int = 6, **arguments: object) -> Result:
    result = run(
        "Make a function fast.",
        "Python code that defines is_prime(n): whether the int n is a prime. What is timed is a "
        "process that runs the code and calls it on 6,000 numbers, 5,000 of them random below "
        f"{LIMIT:,}. One wrong answer and the program fails.",
        score,
        START,
        max_steps=max_steps,
        language="python",
        **arguments,
    )
    best_score, _, best_x = result
    if best_score is None:
        raise SystemExit("\nNo program was right: the reasons are above.")
    print(f"\n{best_score:.2f}, 6,000 calls in {10**-best_score:.3g} seconds:\n{best_x}")
    return result


if __name__ == "__main__":
    main()
