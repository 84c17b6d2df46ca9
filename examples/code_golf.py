"""Code golf: make a program shorter while it still passes its tests.

OPTUNA_LLM_MODEL names the model; "offline" is a rule-based stand-in.
"""

import random

from optuna_llm.evaluate import run_script
from optuna_llm.optimize import Result
from optuna_llm.optimize import run


START = """\
def count_vowels(sentence):
    number_of_vowels = 0
    for letter in sentence:
        if letter.lower() in ["a", "e", "i", "o", "u"]:
            number_of_vowels = number_of_vowels + 1
    return number_of_vowels


sentence = input()
print(count_vowels(sentence))
"""
# Some drawn at random, so that a table of the answers is no way to win.
RANDOM = random.Random(0)
SENTENCES = ["hello world", "", "AEIOU xyz aeiou", "Rhythm", "Queueing"] + [
    "".join(RANDOM.choices("aeiouAEIOU bcdxyzBCDXYZ,.!?", k=length)) for length in (20, 40, 80)
]


def score(code: str) -> tuple[float, str]:
    for sentence in SENTENCES:
        execution = run_script(code, stdin=f"{sentence}\n", timeout=10)
        if not execution.ok:
            raise RuntimeError(execution.feedback)
        expected = sum(letter in "aeiouAEIOU" for letter in sentence)
        if execution.stdout.strip() != str(expected):
            raise ValueError(f"for {sentence!r} it prints {execution.stdout!r}, not {expected}")
    return float(len(code)), f"{len(code)} characters, and all tests pass"


def main(max_steps: int = 10, **arguments: object) -> Result:
    result = run(
        "Code golf: the program with the fewest characters wins.",
        "A Python program that reads a line and prints how many vowels (aeiou, in either case) "
        "it holds.",
        score,
        START,
        max_steps=max_steps,
        language="python",
        direction="minimize",
        **arguments,
    )
    best_score, scores, best_x = result
    if best_score is None:
        raise SystemExit("\nNo program passed the tests: the reasons are above.")
    print(f"\n{best_score:g} characters, the shortest of {len(scores)} that pass:\n{best_x}")
    return result


if __name__ == "__main__":
    main()
