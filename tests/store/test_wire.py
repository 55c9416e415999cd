"""Values on their way to PostgreSQL."""

import random

from sagas.store.wire import array
from tests.harness.database import Query

PIECES = [
    "",
    "a",
    "NULL",
    "null",
    '"',
    "\\",
    "{",
    "}",
    ",",
    " ",
    "%",
    "%s",
    "'",
    "\n",
    "\t",
    "é",
    "\u2028",
    "😀",
    "$1",
    "\\N",
]


def test_an_array_is_read_as_it_was_written(query: Query) -> None:
    """As text that the server reads, it is what psycopg2's own `ARRAY[...]` is."""
    seed = random.Random(1)
    values = ["".join(seed.choices(PIECES, k=seed.randint(0, 4))) for _ in range(500)]
    mixed = [None if seed.random() < 0.1 else value for value in [*PIECES, *values]]
    lists: list[list[str | None]] = [[], [None], [""], mixed]
    lists += [[value] for value in PIECES]
    for several in lists:
        (row,) = query("SELECT %s::text[] AS ours, %s::text[] AS theirs", array(several), several)
        assert row["ours"] == row["theirs"] == several
