"""Numbers written as text: minimize x0² + x1² on [-10, 10]².

OPTUNA_LLM_MODEL names the model; "offline" is a rule-based stand-in.
"""

import json

from optuna_llm.optimize import Result
from optuna_llm.optimize import run


def score(x: str) -> tuple[float, str]:
    point = json.loads(x)
    if len(point) != 2 or not all(-10 <= number <= 10 for number in point):
        raise ValueError("x must be two numbers from -10 to 10")
    value = float(sum(number**2 for number in point))
    return value, f"f({x}) = {value:g}"


def main(max_steps: int = 20, **arguments: object) -> Result:
    result = run(
        "Minimize a function of two numbers.",
        "Two numbers from -10 to 10 as a JSON list, such as [1.5, -2].",
        score,
        "[7.5, -4]",
        max_steps=max_steps,
        stop_score=1e-6,
        direction="minimize",
        **arguments,
    )
    best_score, scores, best_x = result
    if best_score is None:
        raise SystemExit("\nNo text was two numbers: the reasons are above.")
    print(f"\nf({best_x}) = {best_score:g}, the best of {len(scores)}")
    return result


if __name__ == "__main__":
    main()
