"""JSON as PostgreSQL's jsonb can hold it."""

from __future__ import annotations

import json
from typing import Any


class Unstorable(ValueError):
    """What JSON can hold, and jsonb cannot."""


def to_json(value: Any) -> str:
    """Compact JSON. Raises TypeError or ValueError for what JSON cannot hold, Unstorable for what jsonb cannot."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    # Escapes only; a backslash before one makes it text.
    if "\\u0000" in text or "\\ud" in text:
        _refuse_unstorable(text)
    return text


def _refuse_unstorable(text: str) -> None:
    """jsonb holds neither NUL characters nor halves of surrogate pairs."""
    decoded = json.dumps(json.loads(text), ensure_ascii=False)
    try:
        decoded.encode()
    except UnicodeEncodeError:
        raise Unstorable("half of a surrogate pair, which PostgreSQL cannot store") from None
    if "\\u0000" in decoded.replace("\\\\", ""):
        raise Unstorable("a NUL character, which PostgreSQL cannot store")
