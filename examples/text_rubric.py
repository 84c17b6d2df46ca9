"""Text by a rubric: rewrite a sentence until a second conversation with a model likes it.

OPTUNA_LLM_MODEL names the model; "offline" is a rule-based stand-in.
"""

from optuna_llm.evaluate import Judge
from optuna_llm.models import ModelLike
from optuna_llm.optimize import Result
from optuna_llm.optimize import run


RUBRIC = """\
A perfect text, a 10, is all of this: it describes machine learning; it is a palindrome (letters \
read the same from both ends, spaces and punctuation aside); it has at least five words. Take \
points off for what it lacks.
{text}
"""


def main(max_steps: int = 6, model: ModelLike = None, **arguments: object) -> Result:
    judge = Judge(RUBRIC, model=model)

    def score(x: str) -> tuple[float, str]:
        rating = judge(x)
        return rating.score, rating.words

    result = run(
        "Rewrite the text so that it describes machine learning, is a palindrome, and has at "
        "least five words.",
        "One sentence.",
        score,
        "Machine learning is a field of study in artificial intelligence.",
        max_steps=max_steps,
        stop_score=10,
        model=model,
        **arguments,
    )
    best_score, _, best_x = result
    if best_score is None:
        raise SystemExit("\nNo text could be rated: the reasons are above.")
    print(f"\nRated {best_score:g}: {best_x}")
    return result


if __name__ == "__main__":
    main()
