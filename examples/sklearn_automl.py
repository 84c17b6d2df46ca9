"""AutoML: a script that fits a classifier of handwritten digits, scored on unseen images.

The script never sees the test images, and nothing it creates ever sees their labels: it runs in
one contained process, its classifier predicts in another, and the accuracy is computed here.

OPTUNA_LLM_MODEL names the model; "offline" is a rule-based stand-in.
"""

from sklearn.datasets import load_digits

from optuna_llm.evaluate import run_python
from optuna_llm.optimize import Result
from optuna_llm.optimize import run


START = """\
from sklearn import svm

clf = svm.SVC()
clf.fit(X, y)
"""
IMAGES, LABELS = load_digits(return_X_y=True)
HALF = len(IMAGES) // 2


def score(code: str) -> tuple[float, str]:
    known = {"X": IMAGES[:HALF], "y": LABELS[:HALF]}
    fitted = run_python(code, inputs=known, keep=["clf"], timeout=60)
    if not fitted.ok:
        raise RuntimeError(fitted.feedback)
    predict = "predicted = clf.predict(X)"
    unseen = {"X": IMAGES[HALF:]}
    tested = run_python(
        predict, inputs=unseen, kept=fitted.kept, outputs=["predicted"], timeout=60
    )
    if not tested.ok:
        raise RuntimeError(tested.feedback)
    accuracy = float((tested.values["predicted"] == LABELS[HALF:]).mean())
    return accuracy, f"test accuracy {accuracy:.4f}; fitted in {fitted.seconds:.1f} s"


def main(max_steps: int = 8, **arguments: object) -> Result:
    result = run(
        "Classify handwritten digits (8 x 8 pixels, 0 to 16) as accurately as possible.",
        "A script that finds arrays X (images, a row of 64 pixels each) and y (digits) and "
        "leaves `clf`, a scikit-learn estimator fitted to them. It has 60 seconds.",
        score,
        START,
        max_steps=max_steps,
        language="python",
        **arguments,
    )
    best_score, scores, best_x = result
    if best_score is None:
        raise SystemExit("\nNo script made a classifier: the reasons are above.")
    print(f"\nTest accuracy {best_score:.4f}, the best of {len(scores)}:\n{best_x}")
    return result


if __name__ == "__main__":
    main()
