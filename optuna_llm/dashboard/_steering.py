"""What a person may do to a study from its served page: enqueue a trial, mark one, stop it.

An enqueued text may be a program that the workers run, so only who has the token that the server
printed may do so, and only from a page of this server.
"""

from __future__ import annotations

from collections.abc import Mapping
import hmac
import json
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from optuna import Study

from optuna_llm._errors import ReplyError
from optuna_llm._proposing.enqueue import propose
from optuna_llm._study.declarations import write_mark
from optuna_llm._study.declarations import write_stop


if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

_MAX_BODY = 1_000_000


class Refusal(Exception):
    """A request that is not carried out; its text says why."""


def check_request(environ: WSGIEnvironment, token: str) -> None:
    """Refuse a request by who lacks the token, or from another site's page.

    Raises:
        Refusal: If it is refused.
    """
    # Browsers tell the truth here, and a page of another site cannot send these headers at all
    # without being asked about it first, to which this server never agrees.
    origin = urlsplit(environ.get("HTTP_ORIGIN", ""))
    if not origin.netloc or origin.netloc != environ.get("HTTP_HOST"):
        raise Refusal("The request does not come from a page of this server.")
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip() != "application/json":
        raise Refusal("The request is not JSON.")
    given = environ.get("HTTP_X_STEERING_TOKEN", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        raise Refusal("The token is not the one that the server printed when it started.")


def read_body(environ: WSGIEnvironment) -> dict[str, Any]:
    """The JSON object that a request brings.

    Raises:
        Refusal: If there is none, or it is too long.
    """
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > _MAX_BODY:
        raise Refusal(f"The request is longer than {_MAX_BODY:,} bytes.")
    try:
        body = json.loads(environ["wsgi.input"].read(int(length)))
    except (RecursionError, ValueError):
        body = None
    if not isinstance(body, dict):
        raise Refusal("The request is not a JSON object.")
    return body


def steer(study: Study, action: str, body: Mapping[str, Any]) -> str:
    """Do what is asked for; what was done, in words.

    Args:
        study: The study.
        action: ``enqueue``, ``mark`` or ``stop``.
        body: Its arguments.

    Raises:
        KeyError: If there is no such action.
        Refusal: If an argument is not right.
    """
    if action == "stop":
        write_stop(study)
        return "Each worker with an LLMSampler stops after the trial that it is running."
    if action == "mark":
        number, is_marked = body.get("number"), body.get("marked")
        if type(number) is not int or not 0 <= number < len(study.get_trials(deepcopy=False)):
            raise Refusal(f"There is no trial {number!r}.")
        write_mark(study, number, is_marked is True)
        return f"Trial {number} is {'' if is_marked is True else 'not '}marked."
    if action == "enqueue":
        return f"Enqueued as trial {_enqueue(study, body)}: the next free worker runs it."
    raise KeyError(action)


def _enqueue(study: Study, body: Mapping[str, Any]) -> int:
    """Enqueue a trial with the given values; its number.

    Raises:
        Refusal: If one of them is not right.
    """
    values, parent = body.get("values"), body.get("parent")
    if not isinstance(values, dict) or (parent is not None and type(parent) is not int):
        raise Refusal("There are no values to try.")
    try:
        return propose(study, values, parent=parent)
    except (ReplyError, ValueError) as error:
        raise Refusal(str(error)) from error
