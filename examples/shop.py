"""The other side of the order saga: stock, payments and a carrier, as doubles that keep their books in files.

A book is append-only JSON lines in the directory ORDER_LEDGER (`.hodei/ledger` by default), safe across processes. The
payload says what goes wrong, as with the test cards of a real provider: card `tok_declined` is refused, card
`tok_timeout` is charged but nobody is told, and there is no way to the address `nowhere`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sagas import PermanentError

PRICES = {"A1": 42, "B2": 7}


@dataclass(frozen=True)
class Book:
    """One file of the ledger. An entry is written once for each (word, key), however often it is asked for."""

    name: str

    def entries(self) -> list[dict[str, Any]]:
        """All that happened, in order."""
        with self._locked() as file:
            return _read(file)

    def find(self, word: str, key: str) -> dict[str, Any] | None:
        """The entry of this word and key, if there is one."""
        return _find(self.entries(), word, key)

    def write(self, word: str, key: str, *, unless: str = "", **detail: Any) -> dict[str, Any]:
        """Append an entry, or give the one that is there. `unless`: a word after which this one is refused."""
        with self._locked() as file:
            entries = _read(file)
            if _find(entries, unless, key):
                raise PermanentError(f"{word} {key}: there was a {unless} already")
            entry = _find(entries, word, key)
            if entry is None:
                entry = {"word": word, "key": key, **detail}
                file.write(json.dumps(entry) + "\n")
                file.flush()
            return entry

    @contextmanager
    def _locked(self) -> Iterator[TextIO]:
        directory = Path(os.environ.get("ORDER_LEDGER", ".hodei/ledger"))
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / f"{self.name}.jsonl").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def _read(file: TextIO) -> list[dict[str, Any]]:
    file.seek(0)
    return [json.loads(line) for line in file]


def _find(entries: list[dict[str, Any]], word: str, key: str) -> dict[str, Any] | None:
    return next((entry for entry in entries if (entry["word"], entry["key"]) == (word, key)), None)


class Stock:
    """Reserves goods."""

    book = Book("stock")

    def reserve(self, sku: str, *, key: str) -> int:
        """Reserve one piece; its price."""
        if sku not in PRICES:
            raise PermanentError(f"no article {sku!r}")
        self.book.write("reserve", key, unless="release", sku=sku)
        return PRICES[sku]

    def release(self, *, key: str) -> None:
        """Give it back. Also safe if nothing was reserved: then nothing will be, under this key."""
        self.book.write("release", key)


class Payments:
    """Charges cards. A refund closes its reference: a charge that comes late is refused."""

    book = Book("payments")

    def charge(self, card: str, amount: int, *, ref: str) -> str:
        """Charge the card once for each `ref`; the charge's own id."""
        if card == "tok_declined":
            raise PermanentError("the card was declined")
        self.book.write("charge", ref, unless="refund", card=card, amount=amount)
        if card == "tok_timeout":
            raise ConnectionError("no answer from the payment provider")
        return f"ch_{ref}"

    def find(self, *, ref: str) -> dict[str, Any] | None:
        """What is known of a charge; None if there was none: a call has ended when it is asked for."""
        return {"charge": f"ch_{ref}"} if self.book.find("charge", ref) else None

    def refund(self, *, ref: str) -> None:
        """Give the money back, once."""
        self.book.write("refund", ref)


class Carrier:
    """Takes parcels away; there is no way back."""

    book = Book("parcels")

    def ship(self, address: str, *, key: str) -> None:
        """Send it, once for each key."""
        if address == "nowhere":
            raise PermanentError("there is no way to 'nowhere'")
        self.book.write("ship", key, address=address)


stock, psp, carrier = Stock(), Payments(), Carrier()
