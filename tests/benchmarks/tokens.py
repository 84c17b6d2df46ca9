"""What a study of 100 trials costs in tokens, against sending the whole conversation each time.

The same study of a program of 2 kB to 300 kB: each proposal changes a line of the program it
starts from, one in six or so beats the best, and each trial gets a line of feedback. The
model is scripted and answers with edits, or with the whole program. Printed are prompt tokens in
all; what share of them is a prefix of the call before (what a provider's cache would hit); tokens
as billed if a cached one costs a tenth; and completion tokens. The other way is that of
shared conversations: task and start first, then each reply and its result, all of it sent again
with each call, computed from the same texts. A token is counted as 4 characters. Run by hand:

    python tests/benchmarks/tokens.py

Then milliseconds to render the prompt of a study of 1,000 and of 10,000 trials of 2 kB programs,
the median of 20 after a new trial each, and its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import random
import re
import statistics
import time

import optuna

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm._prompt.builder import PromptBuilder
from optuna_llm._prompt.request import make_problem
from optuna_llm._prompt.request import make_request
from optuna_llm._reply.edits import Edit
from optuna_llm._reply.edits import write_edits
from optuna_llm._study.store import StudyStore
from optuna_llm.testing import ScriptedModel


N_TRIALS = 100
TASK = "Make the program score high: each line's number counts once it is right."
RATIONALE = "Line {} looks too low, so I change its number; the lines near it seem right by now."


def make_program(size: int) -> str:
    rng = random.Random(0)
    lines: list[str] = []
    while sum(map(len, lines)) + len(lines) < size:
        lines.append(f"value_{len(lines):03d} = combine({rng.random():.6f}, previous)")
    return "\n".join(lines)


class Editor:
    """Changes a line of the program that the prompt names, as an edit or whole."""

    def __init__(self, study: optuna.Study, is_editing: bool) -> None:
        self._study = study
        self._is_editing = is_editing
        self._rng = random.Random(1)
        self.replies: list[str] = []

    def __call__(self, messages: Sequence[Message]) -> str:
        user = messages[1].content
        parent = int(re.findall(r'^Start from "code" of trial (\d+)', user, re.MULTILINE)[-1])
        text = get_texts(self._study.trials[parent])["code"]
        lines = text.split("\n")
        at = self._rng.randrange(len(lines))
        new = re.sub(r"0\.\d+", f"{0.4 * self._rng.random():.6f}", lines[at])
        body = f'<text name="code">\n{text.replace(lines[at], new)}\n</text>'
        if self._is_editing and "<edit" in messages[0].content:
            blocks = write_edits([Edit(lines[at], new)])
            body = f'<edit name="code" of="{parent}">\n{blocks}\n</edit>'
        self.replies.append(f"<rationale>{RATIONALE.format(at)}</rationale>\n{body}")
        return self.replies[-1]


def _common_prefix(a: str, b: str) -> str:
    unequal = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return a[: next(unequal, min(len(a), len(b)))]


@dataclass
class Bill:
    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def add(self, prompt: str, before: str, reply: str) -> None:
        self.prompt += len(prompt) // 4
        self.cached += len(_common_prefix(prompt, before)) // 4
        self.completion += len(reply) // 4

    @property
    def billed(self) -> float:
        return self.prompt - 0.9 * self.cached


def run(size: int, is_editing: bool) -> tuple[Bill, Bill]:
    """The bill of this project, and that of the whole conversation."""
    start = make_program(size)
    study = optuna.create_study(direction="maximize")
    editor = Editor(study, is_editing)
    model = ScriptedModel(editor)
    study.sampler = LLMSampler(TASK, model=model, seed=0)

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", start, description="The program.", language="python")
        numbers = [float(n) for n in re.findall(r"0\.\d+", text)]
        report_feedback(trial, f"{sum(n > 0.5 for n in numbers)} lines are right.")
        return sum(numbers) / len(numbers)

    study.optimize(objective, n_trials=N_TRIALS + 1)
    ours, other = Bill(), Bill()
    before = ""
    for messages, reply in zip(model.calls, editor.replies, strict=True):
        prompt = messages[0].content + messages[1].content
        ours.add(prompt, before, reply)
        before = prompt
    before = ""
    conversation = TASK
    for trial in study.trials:
        words = trial.user_attrs.get("llm:proposal", {}).get("rationale", "")
        reply = f"{words}\n```\n{get_texts(trial)['code']}\n```\n"
        if trial.number:
            other.add(conversation, before, reply)
        before = conversation
        conversation += f"{reply}f(x) = {trial.value}\n{trial.user_attrs['feedback']}\n"
    return ours, other


def render(n_trials: int) -> tuple[float, int]:
    """Median milliseconds per prompt, and the most tokens that one took."""
    rng = random.Random(0)
    lines = make_program(2_000).split("\n")
    study = optuna.create_study(direction="maximize")
    study.set_user_attr("llm:text:code", {"description": "", "language": None, "initial": ""})
    builder = PromptBuilder()
    store = StudyStore(study, TASK)
    times, sizes = [], []
    for number in range(n_trials + 20):
        lines[rng.randrange(len(lines))] = f"value = combine({rng.random():.6f}, previous)"
        proposal = {"texts": {"code": 1}} | ({"parent": number - 1} if number else {})
        attributes = {"code": "\n".join(lines), "llm:proposal": proposal}
        study.add_trial(optuna.create_trial(value=rng.random(), user_attrs=attributes))
        if number >= n_trials:
            snapshot = store.snapshot(study)
            problem = make_problem(snapshot, space={})
            begin = time.perf_counter()
            request = make_request(snapshot, problem, number, seed=0, taken={})
            prompt = builder.build(snapshot, request)
            times.append(time.perf_counter() - begin)
            sizes.append(prompt.tokens)
    return statistics.median(times) * 1_000, max(sizes)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(
        f"{'program':>8}{'replies':>8}{'prompt':>12}{'of other':>9}{'prefix':>8}"
        f"{'billed':>10}{'of other':>9}{'completion':>12}"
    )
    for size in (2_000, 10_000, 30_000, 100_000, 300_000):
        for is_editing in (False, True) if size <= 10_000 else (True,):
            ours, other = run(size, is_editing)
            form = "edits" if is_editing else "whole"
            print(
                f"{size:>8,}{form:>8}{ours.prompt:>12,}{ours.prompt / other.prompt:>9.3f}"
                f"{ours.cached / ours.prompt:>8.2f}{ours.billed:>10,.0f}"
                f"{ours.billed / other.billed:>9.2f}{ours.completion:>12,}"
            )
        share = other.cached / other.prompt
        print(
            f"{size:>8,}{'other':>8}{other.prompt:>12,}{'':9}{share:>8.2f}"
            f"{other.billed:>10,.0f}{'':9}{other.completion:>12,}"
        )
    print(f"\n{'trials':>8}{'ms':>8}{'tokens':>8}")
    for n_trials in (1_000, 10_000):
        milliseconds, tokens = render(n_trials)
        print(f"{n_trials:>8,}{milliseconds:>8.2f}{tokens:>8,}")


if __name__ == "__main__":
    main()
