"""Whether a server refuses the images of a request, told from its words.

The wordings are those of OpenAI, Azure, OpenRouter, Groq, DeepSeek, Mistral, Anthropic, Gemini,
MiMo, vLLM, llama.cpp, LM Studio and Ollama, and of proxies before them.
"""

from __future__ import annotations

import re

from optuna_llm.models._error_body import ErrorBody


_IMAGE = r"(?:images?(?:_url)?|input_image|vision|pictures?|multi-?modal\w*)"
_REFUSED = re.compile(
    rf"\b{_IMAGE}\b[^.\n]{{0,60}}(?:n[o']t (?:be )?(?:support|accept|allow|enabl|permit|valid)|"
    r"not configured|unsupported|only supported|disabled|exceed|too large)|"
    rf"(?:n[o']t|cannot|unable to) (?:\w+ )?(?:support|accept|allow|handle|process|read|load|"
    rf"identify|decode|have)\w*[^.\n]{{0,60}}\b{_IMAGE}\b|"
    rf"(?:no |un)(?:endpoints? found that )?support\w*[^.\n]{{0,40}}\b{_IMAGE}\b|"
    rf"not (?:an? )?{_IMAGE} model|missing data required for image|mmproj|"
    r"unknown variant \W?image_url|content(?: part)? type\W+image_url|"
    r"(?:invalid|unsupported|empty)_(?:base64_)?image|image_(?:parse_error|too_|file_)|"
    # Servers of texts alone want a message's content to be one.
    r"content\b[^\n]{0,40}(?:must|should) be a (?:valid )?string|sequence, expected a string|"
    r"untagged enum \w*content",
    re.IGNORECASE,
)
_TOO_MANY = re.compile(
    r"(?:too many|too much|at most \d+|more than \d+) (?:images?|media)", re.IGNORECASE
)
_LIMIT = re.compile(
    r"(?:at most|up to|maximum of|max allowed is|limit(?:ed)? (?:is|to)|more than|>) (\d{1,4})\b",
    re.IGNORECASE,
)


def blames_images(body: ErrorBody) -> bool:
    """Whether images are not taken, or not these, or not so many."""
    return bool(_REFUSED.search(body.words) or _TOO_MANY.search(body.words))


def find_image_limit(body: ErrorBody) -> str | None:
    """How many images are taken, where they were only too many; else None."""
    limit = _LIMIT.search(body.words) if _TOO_MANY.search(body.words) else None
    return limit[1] if limit is not None and int(limit[1]) else None
