"""How fast one process starts sagas, beside the least that a start could cost: one row, one message, the same bytes."""

import json
import time
import uuid
from typing import Any

import psycopg2

from benchmarks.contenders.ours import Ours
from benchmarks.measure import held, wait
from benchmarks.servers import Servers
from benchmarks.stand import Options
from tests.harness.servers import libpq_url

BATCH = 100
QUEUE = "least"
LEAST = """
CREATE TABLE least (id uuid PRIMARY KEY, saga_type text NOT NULL, state text NOT NULL, context jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp());
PREPARE least AS INSERT INTO least (id, saga_type, state, context) VALUES ($1, 'bench', 'PENDING', $2)
"""


def starts(servers: Servers, options: Options, sagas: int) -> dict[str, Any]:
    """Starts a second by `start_many`, and by single-row INSERTs in transactions of 100 with a pipelined LPUSH."""
    with held(servers, options, Ours) as contender:
        contender.submit(BATCH)
        message = contender._redis.lindex("steps", 0)
        begun = time.perf_counter()
        contender.submit(sagas)
        ours = time.perf_counter() - begun
        least = _least(servers, contender.stand.database_url, message, sagas)
        contender.release()
        wait(contender, 60 + sagas / 5)
        contender.check()
    return {"sagas": sagas, "start_many": sagas / ours, "least": sagas / least}


def _least(servers: Servers, url: str, message: bytes, sagas: int) -> float:
    """Seconds."""
    connection = psycopg2.connect(libpq_url(url))
    context = json.dumps({"payload": {}, "metadata": {}})
    try:
        with servers.broker.client() as broker, connection.cursor() as cursor:
            cursor.execute(LEAST)
            connection.commit()
            begun = time.perf_counter()
            for first in range(0, sagas, BATCH):
                for _ in range(min(BATCH, sagas - first)):
                    cursor.execute("EXECUTE least(%s, %s)", (str(uuid.uuid4()), context))
                connection.commit()
                pipe = broker.pipeline(transaction=False)
                for _ in range(min(BATCH, sagas - first)):
                    pipe.lpush(QUEUE, message)
                pipe.execute()
            seconds = time.perf_counter() - begun
            broker.delete(QUEUE)
    finally:
        connection.close()
    return seconds
