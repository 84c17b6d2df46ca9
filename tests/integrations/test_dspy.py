"""InstructionOptimizer, by the real package and a scripted server in place of the task's model."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import random
import re
from typing import Any

import optuna
from optuna.pruners import WilcoxonPruner
from optuna.trial import TrialState
from pages import run_page
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request
from werkzeug import Response

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import usage
from optuna_llm._study.cases import read_case_names
from optuna_llm._study.cases import read_cases
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


dspy = pytest.importorskip("dspy", reason="dspy is not installed")

from optuna_llm.integrations.dspy import build_program  # noqa: E402
from optuna_llm.integrations.dspy import evaluate_program  # noqa: E402
from optuna_llm.integrations.dspy import InstructionOptimizer  # noqa: E402
from optuna_llm.integrations.dspy._scoring import name_examples  # noqa: E402


pytestmark = [
    pytest.mark.slow,
    # DSPy and what it needs warn of their own.
    pytest.mark.filterwarnings("ignore"),
]

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SYMBOLS = "Rewrite the question in symbols."
DIGITS = "Answer in digits."


class Adding(dspy.Module):  # type: ignore[misc]
    """Two steps: a question in words becomes a sum, and that is worked out."""

    def __init__(self) -> None:
        super().__init__()
        self.rewrite = dspy.Predict("question -> query")
        self.answer = dspy.Predict(
            dspy.Signature("query -> answer", "Answer the query.").with_updated_fields(
                "answer", desc="The sum alone."
            )
        )

    def forward(self, question: str) -> Any:
        return self.answer(query=self.rewrite(question=question).query)


def make_examples(numbers: range) -> list[Any]:
    """Sums of a number and one, half of them in words."""
    asked = (f"{WORDS[n]} plus one" if n % 2 else f"{n} + 1" for n in numbers)
    return [
        dspy.Example(question=question, answer=str(n + 1)).with_inputs("question")
        for n, question in zip(numbers, asked, strict=True)
    ]


TRAINING = make_examples(range(8))


def is_right(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(example.answer == prediction.answer)


class TaskServer:
    """Answers as a small model would: it does what its instruction says, and nothing else.

    Attributes:
        calls: The bodies of all requests.
        status: The status to answer with, from the call of the same number on.
        garbage: What to answer, in place of anything else, to questions that hold this.
    """

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.status: dict[int, int] = {}
        self.garbage = ""

    def answer(self, request: Request) -> Response:
        body = request.get_json()
        self.calls.append(body)
        status = next((s for n, s in self.status.items() if len(self.calls) > n), 200)
        if status != 200:
            return Response(
                '{"error": {"message": "no"}}', status, content_type="application/json"
            )
        told = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "served",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": self._say(body["messages"])},
                }
            ],
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "total_tokens": 110,
                "prompt_tokens_details": {"cached_tokens": 60},
            },
        }
        return Response(json.dumps(told), content_type="application/json")

    def _say(self, messages: list[dict[str, str]]) -> str:
        system, user = messages[0]["content"], messages[-1]["content"]
        if asked_for := re.findall(r'^<text name="(.+)">$', system, re.MULTILINE):
            again = f" Once more: {len(self.calls)}." if "## Trial 1" in user else ""
            known = {"rewrite": SYMBOLS}
            texts = {name: known.get(name, DIGITS) + again for name in asked_for}
            numbers = {"temperature": len(self.calls) % 100 / 100}
            return write_reply(numbers if "temperature" in system else None, texts)
        if "new_instruction" in user:  # GEPA, as DSPy asks it.
            return json.dumps({"new_instruction": DIGITS})
        outputs = system.partition("Your output fields are:")[2].partition("All interactions")[0]
        fields = re.findall(r"^\d+\. `(\w+)`", outputs, re.MULTILINE)
        if fields and not {"query", "answer"} & set(fields):  # MIPROv2.
            return "".join(f"[[ ## {field} ## ]]\n{DIGITS}\n\n" for field in fields)
        if len(messages) == 1:  # GEPA by itself.
            return f"```\n{DIGITS}\n```"
        found = re.search(r"\[\[ ## (question|query) ## \]\]\n(.*)", user)
        if found is None:
            return self._add(system, user)
        field, asked = found.groups()
        if self.garbage and self.garbage in asked:
            return "I would rather not."
        if field == "query" or "`query`" not in system:
            return f"[[ ## answer ## ]]\n{self._add(system, asked)}\n\n[[ ## completed ## ]]"
        is_told = SYMBOLS in system
        said = asked.replace("plus", "+") if is_told else asked
        for n, word in enumerate(WORDS):
            said = re.sub(rf"\b{word}\b", str(n), said) if is_told else said
        return f"[[ ## query ## ]]\n{said}\n\n[[ ## completed ## ]]"

    def _add(self, told: str, asked: str) -> str:
        numbers = re.fullmatch(r"(\d+) \+ (\d+)", asked.strip())
        total = sum(map(int, numbers.groups())) if numbers else 0
        if numbers is None:
            return "unknown"
        return str(total) if DIGITS in told else WORDS[total % 10]


@pytest.fixture
def server(httpserver: HTTPServer) -> TaskServer:
    task = TaskServer()
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(task.answer)
    return task


@pytest.fixture
def lm(server: TaskServer, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # Or DSPy downloads a table.
    dspy.configure_cache(enable_disk_cache=False)
    return dspy.LM(
        "openai/task", api_base=httpserver.url_for("/v1"), api_key="k", cache=False, num_retries=0
    )


@pytest.fixture(autouse=True)
def _in_use(lm: Any) -> Iterator[None]:
    with dspy.context(lm=lm):
        yield


def propose(*texts: dict[str, str]) -> ScriptedModel:
    """A model that proposes these instructions, in turn."""
    return ScriptedModel([write_reply(texts=text) for text in texts])


BETTER = (
    {"rewrite": "Copy it.", "answer": DIGITS},
    {"rewrite": SYMBOLS, "answer": DIGITS},
)


def test_a_program_gets_the_best_instructions_of_all_its_steps(tmp_path: Path) -> None:
    program = Adding()
    optimizer = InstructionOptimizer(is_right, model=propose(*BETTER), num_trials=3)
    better = optimizer.compile(program, trainset=TRAINING)
    assert [t.value for t in optimizer.study.trials] == [0.0, 0.5, 1.0]
    assert better(question="two plus three").answer == "5"
    assert program.answer.signature.instructions == "Answer the query."
    better.save(tmp_path / "better.json")
    loaded = Adding()
    loaded.load(tmp_path / "better.json")
    assert loaded.rewrite.signature.instructions == SYMBOLS
    assert loaded.answer.signature.instructions == DIGITS
    assert optimizer.validation is None


def test_the_model_is_told_of_steps_examples_and_what_each_step_gave() -> None:
    model = propose(*BETTER)
    InstructionOptimizer(is_right, model=model, num_trials=3, task="Add.").compile(
        Adding(), trainset=TRAINING
    )
    system, user = (message.content for message in model.calls[1])
    assert "Add.\n\nImprove the instructions of a program" in system
    assert "The score is the metric is_right" in system
    assert "The instruction of the step answer: query -> answer. answer: The sum alone." in system
    assert "The instruction of the step rewrite: question -> query." in system
    assert "better than trial 0 in cases 0, 2, 4, 6; worse in none" in user
    assert "- case 1 (one plus one): 0; answer = 'unknown'; wanted answer = '2'" in user
    assert "Score 0: question = 'three plus one'\n" in user
    assert "rewrite gave query = 'three plus one'\n" in user
    assert "answer gave answer = 'unknown'\nWanted: answer = '4'" in user


def test_the_words_of_a_metric_made_for_gepa_are_told() -> None:
    def metric(gold: Any, pred: Any, trace: Any, pred_name: Any, pred_trace: Any) -> Any:
        assert (trace, pred_name, pred_trace) == (None, None, None)
        is_good = gold.answer == pred.answer
        said = "Right." if is_good else f"It is {gold.answer}, in digits."
        return dspy.Prediction(score=float(is_good), feedback=said)

    model = propose(*BETTER)
    InstructionOptimizer(metric, model=model, num_trials=2).compile(Adding(), trainset=TRAINING)
    told = model.calls[0][1].content
    assert "- case 0 (0 + 1): 0; answer = 'one'; It is 1, in digits." in told
    assert "wanted" not in told


def test_the_tokens_of_the_tasks_model_are_the_trials_but_not_the_proposers(lm: Any) -> None:
    optimizer = InstructionOptimizer(is_right, model=propose(*BETTER), num_trials=2)
    optimizer.compile(Adding(), trainset=TRAINING)
    spent = usage(optimizer.study)
    task = spent.by_source["evaluation"]
    assert (task.calls, task.prompt_tokens, task.completion_tokens) == (32, 3_200, 320)
    assert task.cached_tokens == 32 * 60
    assert spent.by_model["openai/task"].prompt_tokens == 3_200
    assert spent.by_proposer["ScriptedModel"].calls == 1
    assert spent.by_proposer["ScriptedModel"].prompt_tokens == 0


def test_an_answer_from_dspys_cache_costs_nothing(lm: Any, server: TaskServer) -> None:
    study = optuna.create_study(direction="maximize")
    with dspy.context(lm=lm.copy(cache=True)):
        for _ in range(2):
            trial = study.ask()
            candidate = build_program(Adding(), trial)
            study.tell(trial, evaluate_program(trial, candidate, TRAINING, is_right))
    assert len(server.calls) == 16
    assert usage(study).calls == 16
    assert study.trials[0].value == study.trials[1].value


def test_held_out_examples_decide_among_the_best() -> None:
    by_heart = {"rewrite": "Copy it.", "answer": f"{DIGITS} By heart."}

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        # On the training examples, what was learned by heart is best.
        knows = "By heart." in str(optimizer.study.trials[-1].user_attrs.get("answer"))
        return 1.0 if knows and example in TRAINING else float(is_right(example, prediction))

    model = propose({"rewrite": SYMBOLS, "answer": DIGITS}, by_heart)
    optimizer = InstructionOptimizer(metric, model=model, num_trials=3, num_threads=1, seed=0)
    held_out = make_examples(range(8))[::-1] + make_examples(range(1, 8))
    held_out = [example.copy(where="held out") for example in held_out]
    better = optimizer.compile(Adding(), trainset=TRAINING, valset=held_out)
    assert [t.value for t in optimizer.study.trials] == [0.0, 1.0, 1.0]
    assert optimizer.validation is not None
    assert optimizer.validation.n_cases == 15
    assert {t.number: t.held_out for t in optimizer.validation.trials}[1] == 1.0
    assert {t.number: t.held_out for t in optimizer.validation.trials}[2] < 1.0
    assert better.rewrite.signature.instructions == SYMBOLS


@pytest.mark.parametrize(
    ("status", "error"), [(401, ModelSetupError), (500, ModelError), (400, ModelError)]
)
def test_a_tasks_model_that_cannot_be_reached_is_no_score(
    status: int, error: type[Exception], server: TaskServer
) -> None:
    server.status = {0: status}
    optimizer = InstructionOptimizer(is_right, model=propose(*BETTER), num_trials=3, num_threads=1)
    with pytest.raises(error, match="openai/task"):
        optimizer.compile(Adding(), trainset=TRAINING)
    assert [trial.state for trial in optimizer.study.trials] == [TrialState.FAIL]
    assert len(server.calls) == 1


def test_a_server_that_fails_for_a_while_fails_the_trial_only(server: TaskServer) -> None:
    server.status = {16: 500, 17: 200}
    server.status = dict(reversed(server.status.items()))
    optimizer = InstructionOptimizer(is_right, model=propose(*BETTER), num_trials=3, num_threads=1)
    better = optimizer.compile(Adding(), trainset=TRAINING)
    states = [trial.state for trial in optimizer.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert better.answer.signature.instructions == DIGITS


def test_an_answer_without_its_form_is_a_failure_with_words(server: TaskServer) -> None:
    server.garbage = "4 + 1"
    optimizer = InstructionOptimizer(
        is_right, model=propose(BETTER[1]), num_trials=2, failure_score=-1.0
    )
    optimizer.compile(Adding(), trainset=TRAINING)
    last = optimizer.study.trials[-1]
    assert last.value == pytest.approx((7 - 1) / 8)
    assert "does not have the form" in read_cases(last).results[4].words
    assert "I would rather not." in read_cases(last).results[4].words


def test_a_metric_that_raises_in_some_examples_scores_these_as_failures() -> None:
    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        return float(int(prediction.answer) == int(example.answer))

    model = propose(*BETTER)
    optimizer = InstructionOptimizer(metric, model=model, num_trials=3)
    with pytest.raises(RuntimeError, match="raised in each example") as raised:
        optimizer.compile(Adding(), trainset=TRAINING)
    assert isinstance(raised.value.__cause__, ValueError)
    program = Adding()
    program.answer.signature = program.answer.signature.with_instructions(DIGITS)
    optimizer = InstructionOptimizer(metric, model=propose(BETTER[1]), num_trials=2)
    optimizer.compile(program, trainset=TRAINING)
    assert [trial.value for trial in optimizer.study.trials] == [0.5, 1.0]
    assert "Raised ValueError" in read_cases(optimizer.study.trials[0]).results[1].words


def test_a_judge_in_a_metric_that_cannot_be_reached_is_no_score() -> None:
    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        raise ModelError("The judge is down.")

    optimizer = InstructionOptimizer(metric, model=propose(*BETTER), num_trials=3)
    with pytest.raises(ModelError, match="The judge is down"):
        optimizer.compile(Adding(), trainset=TRAINING)
    assert [trial.state for trial in optimizer.study.trials] == [TrialState.FAIL]


def test_a_language_model_of_dspy_can_propose(lm: Any, server: TaskServer) -> None:
    proposer = lm.copy(temperature=0.7, max_tokens=4_000, reasoning_effort="low")
    optimizer = InstructionOptimizer(is_right, model=proposer, num_trials=2)
    better = optimizer.compile(Adding(), trainset=TRAINING)
    assert optimizer.study.best_value == 1.0
    assert better.rewrite.signature.instructions == SYMBOLS
    sent = server.calls[16]
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert (sent["temperature"], sent["reasoning_effort"]) == (0.7, "low")
    assert sent.get("max_tokens", sent.get("max_completion_tokens")) == 4_000
    assert "api_key" not in sent
    proposing = usage(optimizer.study).by_source["model"]
    assert (proposing.calls, proposing.prompt_tokens, proposing.cached_tokens) == (1, 100, 60)


def test_a_trial_that_loses_is_pruned_and_still_tells_what_it_spent() -> None:
    program = Adding()
    program.answer.signature = program.answer.signature.with_instructions(DIGITS)
    program.rewrite.signature = program.rewrite.signature.with_instructions(SYMBOLS)
    examples = [
        dspy.Example(question=f"{n % 10} + {n // 10}", answer=str(n % 10 + n // 10)).with_inputs(
            "question"
        )
        for n in range(60)
    ]
    model = propose({"rewrite": "Copy it.", "answer": "In words."})
    optimizer = InstructionOptimizer(is_right, model=model, num_trials=2, num_threads=1)
    better = optimizer.compile(program, trainset=examples)
    pruned = optimizer.study.trials[1]
    assert isinstance(optimizer.study.pruner, WilcoxonPruner)
    assert pruned.state == TrialState.PRUNED
    count = len(read_cases(pruned).results)
    assert count < 40
    assert usage(optimizer.study).by_source["evaluation"].calls == 2 * (60 + count)
    assert "Some of the worst examples" in pruned.user_attrs["feedback"]
    assert better.rewrite.signature.instructions == SYMBOLS


def test_a_study_of_ones_own_is_continued_and_knows_examples_by_their_inputs(
    tmp_path: Path,
) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for texts in BETTER:
        study = optuna.create_study(
            study_name="adding",
            storage=storage,
            load_if_exists=True,
            direction="maximize",
            sampler=LLMSampler("Add.", model=propose(texts, texts)),
        )
        optimizer = InstructionOptimizer(
            is_right, study=study, num_trials=2 - len(study.trials) // 2
        )
        shuffled = random.Random(len(study.trials)).sample(TRAINING, len(TRAINING))
        better = optimizer.compile(Adding(), trainset=shuffled)
        assert optimizer.study is study
    assert [trial.value for trial in study.trials] == [0.0, 0.5, 1.0]
    numbers = {name: case for case, name in read_case_names(study.user_attrs).items()}
    assert len(numbers) == 8
    solved = {c for c, r in read_cases(study.trials[1]).results.items() if r.score == 1}
    assert solved == {numbers[f"{n} + 1"] for n in (0, 2, 4, 6)}
    assert better.rewrite.signature.instructions == SYMBOLS
    assert get_texts(study.best_trial) == BETTER[1]


def test_numbers_are_searched_beside_the_instructions(lm: Any, server: TaskServer) -> None:
    def objective(trial: optuna.Trial) -> float:
        candidate = build_program(Adding(), trial)
        temperature = trial.suggest_float("temperature", 0, 1)
        with dspy.context(lm=lm.copy(temperature=temperature)):
            return evaluate_program(trial, candidate, TRAINING, is_right)

    reply = write_reply({"temperature": 0.25}, BETTER[1])
    study = optuna.create_study(
        direction="maximize", sampler=LLMSampler(model=ScriptedModel([reply]))
    )
    study.optimize(objective, n_trials=2)
    assert study.best_params == {"temperature": 0.25}
    assert server.calls[-1]["temperature"] == 0.25
    best = build_program(Adding(), study.best_trial)
    assert best(question="one plus one").answer == "2"


def test_it_is_a_step_of_better_together(lm: Any) -> None:
    program = Adding()
    program.set_lm(lm)
    optimizer = InstructionOptimizer(is_right, model=propose(*BETTER), num_trials=3)
    both = dspy.BetterTogether(metric=is_right, p=optimizer)
    better = both.compile(program, trainset=TRAINING, valset=TRAINING, strategy="p")
    assert better.rewrite.signature.instructions == SYMBOLS
    assert better.candidate_programs[0]["score"] == 100.0


def test_the_page_on_gepa_and_dspy_runs(
    server: TaskServer,
    httpserver: HTTPServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", httpserver.url_for("/v1"))
    names = run_page("docs/coming-from-gepa-dspy.md", "dspy")
    assert names["better"].signature.instructions == DIGITS
    saved = json.loads((tmp_path / "better.json").read_text())
    assert saved["signature"]["instructions"] == DIGITS
    assert names["result"].best_candidate["prompt"] == DIGITS
    assert get_texts(names["study"].best_trial) == {"prompt": DIGITS}
    assert names["study"].best_value == 1


def test_a_program_of_one_predictor_has_one_text_called_instructions() -> None:
    trial = optuna.create_study().ask()
    build_program(dspy.Predict("query -> answer"), trial)
    assert list(get_texts(trial)) == ["instructions"]

    class Judging(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.feedback = dspy.ChainOfThought("query -> answer")
            self.steps = {"a": dspy.Predict("query -> answer")}

    trial = optuna.create_study().ask()
    build_program(Judging(), trial)
    assert list(get_texts(trial)) == ["feedback.predict", "steps['a']"]


def test_examples_of_the_same_inputs_get_names_of_their_own() -> None:
    examples = [dspy.Example(q="a", n=n).with_inputs("q") for n in range(3)]
    examples += [dspy.Example(q="a #2", n=3).with_inputs("q")]
    examples += [dspy.Example(q="x" * 500, n=4).with_inputs("q"), dspy.Example(n=5).with_inputs()]
    named = name_examples(examples)
    assert [example.n for example in named.values()] == list(range(6))
    assert list(named)[:3] == ["a", "a #2", "a #3"]
    assert max(map(len, named)) < 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_trials": 0}, "num_trials must be"),
        ({"top": True}, "top must be"),
        ({"study": optuna.create_study()}, "must maximize"),
        ({"study": optuna.create_study(direction="maximize"), "model": "m"}, "its own sampler"),
    ],
)
def test_an_argument_that_cannot_be_right_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        InstructionOptimizer(is_right, **arguments)


def test_what_cannot_be_compiled_is_refused() -> None:
    optimizer = InstructionOptimizer(is_right, model="offline", num_trials=1)
    with pytest.raises(ValueError, match="at least one example"):
        optimizer.compile(Adding(), trainset=[])
    with pytest.raises(ValueError, match="no teacher"):
        optimizer.compile(Adding(), trainset=TRAINING, teacher=Adding())
    with pytest.raises(ValueError, match="no predictors"):
        optimizer.compile(dspy.Module(), trainset=TRAINING)
    with pytest.raises(ValueError, match="Inputs have not been set"):
        optimizer.compile(Adding(), trainset=[dspy.Example(question="1 + 1")])
    with pytest.raises(TypeError, match="metric must be a function"):
        InstructionOptimizer("exact")  # type: ignore[arg-type]
