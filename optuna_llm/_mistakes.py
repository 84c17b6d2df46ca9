"""Natural mistakes in a call, answered with what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import difflib
import inspect
import re


# One word with a digit, a slash or a colon in it: gpt-5, qwen/qwen3, llama3:8b.
_MODEL_NAME = re.compile(r"(?=[a-z][\w./:-]*$)[a-z]\S*[\d/:]\S*", re.IGNORECASE)


def refuse_model_as_task(task: object, model: object) -> None:
    """Refuse a task that reads like the name of a model where no model is given.

    Raises:
        ValueError: If it does.
    """
    if model is not None or not isinstance(task, str):
        return
    if task == "offline" or _MODEL_NAME.fullmatch(task):
        raise ValueError(
            f"The first argument is the task, and {task!r} reads like the name of a model: "
            f'write LLMSampler("what to do, in words", model={task!r}).'
        )


def refuse_unknown(function: Callable[..., object], unknown: Mapping[str, object]) -> None:
    """Refuse keyword arguments that a function does not have.

    Raises:
        TypeError: If there are any; it says which argument may be meant, or that settings of the
            model go to the model.
    """
    if not unknown:
        return
    name = next(iter(unknown))
    said = f"{function.__qualname__.removesuffix('.__init__')}() has no argument {name!r}."
    known = [p for p in inspect.signature(function).parameters if p not in ("self", "unknown")]
    similar = difflib.get_close_matches(name, known, n=1)
    if similar:
        raise TypeError(f"{said} Did you mean {similar[0]!r}?")
    setting = f"{name}={unknown[name]!r}"
    raise TypeError(
        f'{said} Settings of a model go to the model: model=OpenAIModel("…", {setting}).'
    )
