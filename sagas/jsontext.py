"""JSON as PostgreSQL's jsonb can hold it."""

from __future__ import annotations

import json
from typing import Any


def to_json(value: Any) -> str:
    """Compact JSON. Raises TypeError or ValueError for what JSON (or jsonb) cannot hold."""
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
        raise ValueError("half of a surrogate pair, which PostgreSQL cannot store") from None
    if "\\u0000" in decoded.replace("\\\\", ""):
        raise ValueError("a NUL character, which PostgreSQL cannot store")
