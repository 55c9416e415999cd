"""This app's own records: what it has booked, in a file."""

import json
import os
from pathlib import Path


def note(what: str, key: str) -> None:
    """Append one line to the book."""
    with Path(os.environ["PROJ_BOOK"]).open("a") as book:
        book.write(json.dumps({"what": what, "key": key}) + "\n")
