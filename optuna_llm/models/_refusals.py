"""What in a request a server refuses, told from its words: length, a parameter, a role, the API.

The wordings are those of OpenAI, Azure, OpenRouter, Groq, Gemini, Anthropic, xAI, Mistral,
DeepSeek, Together, GitHub Models, Cloudflare, vLLM, llama.cpp, LM Studio, Ollama, text-generation-
inference and of proxies before them.
"""

from __future__ import annotations

from collections.abc import Sequence
import re

from optuna_llm.models._error_body import ErrorBody


LENGTH_PARAMETERS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_RENAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}

_WHAT = r"(?:prompts?|inputs?|requests?|messages?|body|payload|entity|content|query|string)"
_TOO_LONG = re.compile(
    r"context[ _-]?(?:length|window|size|limit)|maximum context|max_model_len|n_ctx\b|"
    rf"{_WHAT}(?: size| length| body)?(?: is| are| was)?(?: far| way)? too (?:long|large|big)|"
    r"(?:prompt|request|string|input)_(?:is_)?too_(?:long|large)|string_above_max_length|"
    r"too many (?:input |prompt )?tokens|token(?:s)?_limit|token limit|input token count|"
    r"max(?:imum)? (?:prompt|input|sequence|message|content)(?: \w+)? (?:length|tokens|size)|"
    rf"(?:reduce|shorten) (?:the |your )?(?:length|size|{_WHAT})|provide a shorter|"
    rf"{_WHAT} exceed\w* (?:the |your )?(?:model|available|max|allowed|limit|token|supported)|"
    r"tokens? (?:\(\d+\) )?exceed|exceed\w* (?:the |model |max |maximum )*(?:number of )?tokens|"
    r"too large for (?:the |this )?model|range of input length|must have less than \d+ tokens|"
    r"tokens \+ `?max_new_tokens|"
    r"when (?:the )?context (?:the )?overflow|longer than the (?:model|max)",
    re.IGNORECASE,
)
# A rate limit speaks of tokens and lengths too: only these say that waiting is of no use.
_LARGER_THAN_LIMIT = re.compile(
    rf"{_WHAT} (?:is )?too (?:large|long)|tokens must be reduced|context_length_exceeded|"
    r"maximum context length|entity too large",
    re.IGNORECASE,
)
_LIMIT_AND_REQUEST = re.compile(r"limit:? ~?(\d+).{0,60}?requested:? ~?(\d+)", re.I | re.DOTALL)
_ABOUT_OUTPUT = re.compile(
    r"max_(?:completion_|output_|new_)?tokens|max(?:imum)? (?:output |completion )?tokens\b|"
    r"(?:in|for) the completion|completion (?:length|tokens)|output tokens",
    re.IGNORECASE,
)
_IS_TOO_LARGE = re.compile(
    r"too (?:large|high|big)|at most|exceed|less than or equal|<=|>|maximum|range", re.IGNORECASE
)
_PROMPT_SIZE = re.compile(
    r"(\d+) (?:tokens )?(?:in|of|from) (?:the |your )?(?:messages|prompt|text input|input)|"
    r"(?:has|have|contains?|with)(?: at least| about)? (\d+) (?:input |prompt )?tokens|"
    r"(\d+) (?:prompt|input|`?inputs`?) tokens|limit: (\d+) \+ \d+ >|"
    r"messages resulted in (\d+)|Given: (\d+)",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"(?:context|prompt|sequence)[ _](?:length|window|limit|size)(?: of| is|:)?(?: only)? (\d+)\b"
    r"(?! \+)|"
    r"\+ \d+ > (\d+)|must be <= (\d+)",
    re.IGNORECASE,
)
_SYSTEM_ROLE = re.compile(
    r"system(?: or developer)? roles?\b|roles? \W?system\b|"
    r"system (?:messages?|prompts?|instructions?) (?:is|are|not|isn|cannot|in this)|"
    r"(?:support|allow|accept|expect)\w* (?:a |any |the )?\W?system\b|"
    r"developer instruction is not enabled|roles must alternate|"
    r"only user,? (?:and|or) assistant|"
    r"(?:unsupported|invalid|unknown|unexpected) (?:message )?role|"
    r"\brole\b.{0,80}(?:should|must|expected) (?:be )?.{0,20}\buser\b",
    re.IGNORECASE | re.DOTALL,
)
_OTHER_API = re.compile(
    r"v1/responses|responses api|not a chat model|"
    r"not supported in the v1/chat/completions|chat ?completions? operation does not work",
    re.IGNORECASE,
)
_MUST_STREAM = re.compile(
    r"stream\W* must be (?:set to )?\W?true|streaming is required|only supports? stream|"
    r"supports? only stream|non-stream\w* (?:is |requests? (?:is|are) )?not supported",
    re.IGNORECASE,
)
# Servers that turn a schema into a grammar blame that.
_SCHEMA = re.compile(
    r"response[ _]?formats?\b|json[ _]?schema|structured[ _]outputs?|\bgrammar\b|guided[ _]|"
    r"\bxgrammar|\boutlines\b|(?:invalid|unsupported) schema|"
    r"schema (?:is )?(?:not supported|unsupported|invalid|too)",
    re.IGNORECASE,
)
_SCHEMA_FIELDS = {"response_format", "text", "format", "json_schema", "structured_outputs"}
_ONLY_ONE = re.compile(r"\bboth\b|only one|at the same time|mutually exclusive", re.IGNORECASE)


def is_too_long(status: int, body: ErrorBody) -> bool:
    """Whether the prompt is refused for its length, for good."""
    numbers = _LIMIT_AND_REQUEST.search(_join_digits(body.words))
    if numbers is not None:
        return int(numbers[2]) > int(numbers[1])
    if status == 413:
        return True
    return bool((_LARGER_THAN_LIMIT if status == 429 else _TOO_LONG).search(body.words))


def blames_output(body: ErrorBody, sent: Sequence[str]) -> str | None:
    """The parameter of those sent that asks for too many output tokens; None if none does."""
    lengths = [name for name in LENGTH_PARAMETERS if name in sent]
    if not lengths:
        return None
    words = _join_digits(body.words)
    is_named = bool(body.fields & {*lengths}) or bool(_ABOUT_OUTPUT.search(words))
    if not is_named or not (_IS_TOO_LARGE.search(words) or _TOO_LONG.search(words)):
        return None
    prompt, limit = _PROMPT_SIZE.search(words), _LIMIT.search(words)
    if prompt and limit and _number(prompt) >= _number(limit):
        return None  # The prompt alone does not fit.
    return lengths[0]


def refuses_system_role(body: ErrorBody) -> bool:
    """Whether there must not be a system message."""
    return bool(_SYSTEM_ROLE.search(body.words))


def wants_responses_api(body: ErrorBody) -> bool:
    """Whether the model speaks the Responses API only."""
    return bool(_OTHER_API.search(body.words))


def wants_stream(body: ErrorBody) -> bool:
    """Whether replies can be had as a stream only."""
    return bool(_MUST_STREAM.search(body.words))


def refuses_schema(body: ErrorBody) -> bool:
    """Whether the server does not take a JSON schema, or not this one."""
    return bool(body.fields & _SCHEMA_FIELDS or _SCHEMA.search(body.words))


def find_rejected(body: ErrorBody, sent: Sequence[str]) -> dict[str, str | None]:
    """The parameters that the server names as what is wrong.

    A name counts where it stands as a name: in a field for it, in quotes, or in a phrase such as
    "unknown field x". As a mere word it does not, unless it can be no word (``top_p``).

    Args:
        body: The error.
        sent: Names of the parameters that were sent.

    Returns:
        Each name with the one to send it by instead; None to leave it out.
    """
    if body.fields:
        blamed = [name for name in sent if name in body.fields]
    else:
        blamed = [name for name in sent if _is_named(name, body.words)]
    others = {name: _find_other_name(name, body, sent) for name in blamed}
    for name, other in list(others.items()):
        # Of "use a, not b" a is no fault.
        if name in others.values():
            del others[name]
        elif other is not None and other in sent:
            others[name] = None
    if len(others) > 1 and _ONLY_ONE.search(body.words):
        return dict(list(others.items())[-1:])
    return others


def _find_other_name(name: str, body: ErrorBody, sent: Sequence[str]) -> str | None:
    """The name that the server knows the parameter by: it stands beside the one it does not."""
    other = _RENAMES.get(name)
    is_said = other is not None and re.search(rf"\b{other}\b", body.words)
    return other if is_said and other not in sent else None


def _is_named(name: str, words: str) -> bool:
    if "_" in name:
        camel = re.sub("_([a-z])", lambda match: match[1].upper(), name)
        if re.search(rf"(?<![\w.])(?:{re.escape(name)}|{re.escape(camel)})(?!\w)", words):
            return True
    name = re.escape(name)
    forms = (
        rf"[\"'`\u2018\u201c]{name}[\"'`\u2019\u201d]",
        rf"(?:->|body\.|\$\.)\s*{name}\b|^\s*{name}: ",
        rf"(?:supported|permitted|allowed|recognized|unexpected)\b[^.;\n]{{0,40}}: {name}\b",
        r"(?:parameters?|arguments?|fields?|options?|propert(?:y|ies)|keys?|inputs?|supplied|"
        r"unknown|unsupported|unrecognized|unexpected)"
        rf"(?: names?| is| are)?:? (?:\w+, )*{name}(?:[.,;:)\s]|$)",
        rf"(?:^|[\s(]){name}:? (?:parameter|argument|field|option)?\s*"
        r"(?:(?:is|are|was|has|does|do|can|must|should|may) ?(?:not|no|only|be\b|un|deprecated)|"
        r"not (?:supported|allowed|permitted|recognized)|unsupported|extra inputs)",
    )
    return any(re.search(form, words, re.IGNORECASE | re.MULTILINE) for form in forms)


def _join_digits(words: str) -> str:
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", words)


def _number(match: re.Match[str]) -> int:
    return int(next(filter(None, match.groups())))
