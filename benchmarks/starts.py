"""How fast one process starts sagas, beside the least that a start could cost: one row, one message, the same bytes."""

import json
import time
import uuid
from typing import Any

import psycopg2

from benchmarks.contenders.ours import Ours
from benchmarks.measure import wait
from benchmarks.servers import Servers
from benchmarks.stand import Job, Options, stand
from sagas import SagaClient
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
    with stand(servers, options) as place:
        contender = Ours(place, Job())
        try:
            contender.start()
            contender.hold()
            client = SagaClient(app=contender.client, database_url=place.database_url)
            client.start_many("bench", [{}] * BATCH)
            message = contender._redis.lindex("steps", 0)
            begun = time.perf_counter()
            client.start_many("bench", [{}] * sagas)
            ours = time.perf_counter() - begun
            least = _least(servers, place.database_url, message, sagas)
            contender.started = sagas + BATCH
            contender.release()
            wait(contender, 60 + sagas / 5)
            contender.check()
        finally:
            contender.close()
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
