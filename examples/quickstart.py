"""A language model improves a program: it packs items into boxes as they come.

Runs as is, without a key: it replays what a language model has answered to these very prompts,
from quickstart.jsonl (recorded by record.py). To ask a model yourself, name it in
OPTUNA_LLM_MODEL, with OPENAI_API_KEY or OPENAI_BASE_URL as for the openai package.
"""

import argparse
import ast
import os
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm import describe_study
from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm.dashboard import DashboardNotes
from optuna_llm.evaluate import Limits
from optuna_llm.evaluate import run_python
from optuna_llm.models import ModelLike
from optuna_llm.models import ReplayModel


REPLIES = Path(__file__).with_name("quickstart.jsonl")
N_TRIALS = 13
SIZE = 100
TASK = (
    "Pack items into as few boxes of size 100 as possible, each item as it comes. The value is "
    "the number of boxes beyond what the total size needs, over three streams of 1,000 items; a "
    "stream needs about 400. Sizes are random, from 1 to 79, 40 on average and most of them near "
    "that."
)
FORM = (
    "Defines choose(item, rooms, seen), called for each item: `rooms` lists the free space of the "
    "boxes that it fits in, oldest first, and of an empty box at the end; `seen` lists the items "
    "before it. It returns the index in `rooms` of the box to use. All calls together may take 5 "
    "seconds. To be the same on any machine: integers only (// in place of /), no imports, the "
    "usual methods of lists, sets and dictionaries, and no built-in functions but "
)
START = """\
def choose(item, rooms, seen):
    return 0  # The oldest box that it fits in.
"""
PACK = """
chosen = []
for stream in streams:
    boxes, chosen_here = [], []
    for i, item in enumerate(stream):
        fitting = [b for b, used in enumerate(boxes) if used + item <= size]
        rooms = [size - boxes[b] for b in fitting] + [size]
        box = [*fitting, len(boxes)][choose(item, rooms, stream[:i])]
        if box == len(boxes):
            boxes.append(0)
        boxes[box] += item
        chosen_here.append(box)
    chosen.append(chosen_here)
"""
FUNCTIONS = "abs all any bool dict divmod enumerate filter int len list map max min pow range"
FUNCTIONS += " reversed set sorted sum tuple zip"
METHODS = "add append clear copy count discard extend get index insert items keys pop remove"
METHODS += " reverse setdefault sort update values"
FORM += f"{FUNCTIONS.replace(' ', ', ')}."


def make_stream(state: int) -> list[int]:
    """1,000 sizes from 1 to 79, the same on any machine."""
    sizes = [1] * 1000
    for i in range(3 * len(sizes)):
        state = (1103515245 * state + 12345) % 2**31
        sizes[i // 3] += (state >> 16) % 27
    return sizes


SPACES = ((0, 0), (1, 3), (4, 9), (10, 19), (20, 99))
STREAMS = [make_stream(state) for state in (1, 2, 3)]


def check_exact(code: str) -> None:
    """Refuse what may differ between machines, or could reach beyond the function."""
    tree = ast.parse(code)
    nodes = list(ast.walk(tree))
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    stored |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    stored |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    for node in nodes:
        problem = ""
        if isinstance(
            node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.ClassDef
        ):
            problem = type(node).__name__
        elif isinstance(node, ast.Div):
            problem = "/"
        elif isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            problem = repr(node.value)
        elif isinstance(node, ast.Attribute) and node.attr not in METHODS.split():
            problem = f".{node.attr}"
        elif isinstance(node, ast.Name) and node.id not in stored | set(FUNCTIONS.split()):
            problem = node.id
        if problem:
            raise ValueError(f"{problem} is not allowed: see what the program must keep to.")


def score(code: str) -> tuple[int, str]:
    """How many boxes too many a program takes, and words on it.

    Raises:
        ValueError: If the program is wrong.
    """
    check_exact(code)
    inputs = {"streams": STREAMS, "size": SIZE}
    # Of CPU, and more than the model is told, so that a slow machine comes to the same.
    limits = Limits(cpu_seconds=20)
    program = f"{code}\n{PACK}"
    run = run_python(program, inputs=inputs, outputs=["chosen"], timeout=120, limits=limits)
    if not run.ok:
        # Only the last line of a traceback is the same in all versions of Python.
        raise ValueError(run.feedback.splitlines()[-1])
    # The packing is counted here, out of the program's reach.
    extra, left = [], []
    for stream, chosen in zip(STREAMS, run.values["chosen"], strict=True):
        boxes = dict.fromkeys(chosen, 0)
        for item, box in zip(stream, chosen, strict=True):
            boxes[box] += item
        if max(boxes.values()) > SIZE:
            raise ValueError("A box is too full.")
        extra.append(len(boxes) - -(-sum(stream) // SIZE))
        left += [SIZE - used for used in boxes.values()]
    counts = [f"{a} to {b}: {sum(a <= x <= b for x in left)}" for a, b in SPACES]
    return sum(extra), (
        f"Boxes too many, by stream: {', '.join(map(str, extra))}. "
        f"How many boxes of all streams have how much space left: {'; '.join(counts)}."
    )


def objective(trial: optuna.Trial) -> int:
    code = suggest_text(trial, "code", START, description=FORM, language="python")
    try:
        value, words = score(code)
    except (SyntaxError, ValueError) as error:
        report_feedback(trial, f"{type(error).__name__}: {error}")
        raise
    report_feedback(trial, words)
    return value


def show_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    proposal = trial.user_attrs.get("llm:proposal", {})
    reason = proposal.get(
        "rationale", "no proposal" if trial.number else "the program to start from"
    )
    if trial.state == TrialState.COMPLETE:
        note = ", the best so far" if study.best_trial.number == trial.number else ""
        result = f"{trial.value:.0f} boxes too many{note}"
    else:
        said = trial.user_attrs.get("feedback") or proposal.get("error") or "see the log"
        result = f"failed: {said.splitlines()[-1]}"
    print(f"trial {trial.number:2d}: {reason}\n          {result}\n", flush=True)


def run(model: ModelLike, storage: str | None, n_trials: int = N_TRIALS) -> optuna.Study:
    """Go on with the study, or begin it, until it has so many trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=LLMSampler(TASK, model=model, seed=0),
        storage=storage,
        study_name="quickstart",
        load_if_exists=True,
    )
    describe_study(study, best_possible=0, noise=0, n_trials=N_TRIALS)
    callbacks = [show_trial, DashboardNotes()]
    study.optimize(objective, n_trials - len(study.trials), catch=Exception, callbacks=callbacks)
    return study


def main(storage: str = "sqlite:///quickstart.db", n_trials: int = N_TRIALS) -> optuna.Study:
    model = os.environ.get("OPTUNA_LLM_MODEL") or ReplayModel(REPLIES)
    study = run(model, storage, n_trials)
    if not study.get_trials(states=[TrialState.COMPLETE]):
        raise SystemExit("No trial has succeeded: the reasons are above.")
    best = study.best_trial
    print(f"The best of {len(study.trials)} trials, {best.value:.0f} boxes too many:\n")
    print(get_texts(best)["code"])
    print(f"Stored in {storage}. To look at it: optuna-llm dashboard {storage}")
    return study


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("storage", nargs="?", default="sqlite:///quickstart.db")
    parser.add_argument("n_trials", nargs="?", default=N_TRIALS, type=int)
    arguments = parser.parse_args()
    try:
        main(arguments.storage, arguments.n_trials)
    except LLMError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
