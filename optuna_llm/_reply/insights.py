"""What a reply says of the trials so far, beside its values."""

from __future__ import annotations

import re

from optuna_llm._quoting import one_line


_MAX_INSIGHTS = 6
_MAX_LINE = 300
_BULLET = re.compile(r"^[\s>*•+-]*(?:\d{1,2}[.)]\s*)?")


def parse_insights(reply: str) -> list[str]:
    """The lines of a reply's last <insights> block; none where it has no such block."""
    lower = reply.lower()
    end = lower.rfind("</insights>")
    start = lower.rfind("<insights>", 0, max(end, 0))
    if start < 0:
        return []
    lines = reply[start + len("<insights>") : end].splitlines()
    said = [one_line(_BULLET.sub("", line), _MAX_LINE) for line in lines]
    return [line for line in said if line and line != "…"][:_MAX_INSIGHTS]
