"""What a user may set of the messages: their templates and their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter


LEAST_PROMPT_TOKENS = 500

SYSTEM_TEMPLATE = "{role}\n\n{task}{objectives}{numbers}{texts}{reply}\n\n{data}\n"
USER_TEMPLATE = "{history}{best}{running}{request}"


@dataclass(frozen=True)
class Templates:
    """What the two messages are made of, with places for the parts that we fill in.

    Attributes:
        system: The system message, with any of ``{role}`` ``{task}`` ``{objectives}``
            ``{numbers}`` ``{texts}`` ``{reply}`` ``{data}``. ``{reply}``, the form of the
            answer, must be there; to be cached it should not change within a study.
        user: The user message, with any of ``{history}`` ``{best}`` ``{running}``
            ``{request}``. ``{request}`` must be there.
    """

    system: str = SYSTEM_TEMPLATE
    user: str = USER_TEMPLATE

    def __post_init__(self) -> None:
        system = ("role", "task", "objectives", "numbers", "texts", "reply", "data")
        _check_template("system", self.system, system, "reply")
        _check_template("user", self.user, ("history", "best", "running", "request"), "request")


def _check_template(which: str, template: str, known: Sequence[str], needed: str) -> None:
    """Refuse a template that could not be filled in, or would leave the model without a part.

    Raises:
        ValueError: If a placeholder does not exist, or one that must be there is not.
    """
    there = ", ".join(f"{{{name}}}" for name in known)
    try:
        found = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ValueError(
            f"The {which} template is not well formed ({error}): write {{{{ for a brace. "
            f"Its placeholders are {there}."
        ) from error
    unknown = sorted(found - set(known))
    if unknown:
        raise ValueError(
            f"The {which} template has no placeholder {{{unknown[0]}}}: there are {there}."
        )
    if needed not in found:
        raise ValueError(f"The {which} template must hold {{{needed}}}; there are {there}.")


DEFAULT_TEMPLATES = Templates()
