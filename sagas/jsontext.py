"""JSON as PostgreSQL's jsonb can hold it."""

from __future__ import annotations

import json
from typing import Any

# One for all calls: json.dumps makes a new one for each that differs from its defaults.
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class Unstorable(ValueError):
    """What JSON can hold, and jsonb cannot."""


class JsonText(str):
    """JSON already, by `to_json`: it is not encoded again."""


def to_json(value: Any) -> str:
    """Compact JSON. Raises TypeError or ValueError for what JSON cannot hold, Unstorable for what jsonb cannot."""
    if isinstance(value, JsonText):
        return value
    text = _ENCODER.encode(value)
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
