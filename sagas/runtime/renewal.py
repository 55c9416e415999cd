"""Where no time limit can end a step (the threads of a pool), its claim is renewed while it runs."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from sagas.errors import HodeiError
from sagas.settings import LEASE_MARGIN
from sagas.store.store import Store
from sagas.types import SagaId

log = logging.getLogger(__name__)


def renewed(
    store: Store, saga_id: SagaId, step: str, attempt_id: uuid.UUID, limit: float
) -> AbstractContextManager[None]:
    """Keep the claim alive in the body; `limit` is the step's time limit in seconds. In a main thread: nothing."""
    if threading.current_thread() is threading.main_thread():
        return _NOT_NEEDED
    return _renewed(store, saga_id, step, attempt_id, limit)


_NOT_NEEDED: AbstractContextManager[None] = nullcontext()


@contextmanager
def _renewed(store: Store, saga_id: SagaId, step: str, attempt_id: uuid.UUID, limit: float) -> Iterator[None]:
    done = threading.Event()

    def renew() -> None:
        # Three tries for each lease; the database may be away for one of them.
        while not done.wait((limit + LEASE_MARGIN) / 3):
            try:
                if not store.renew(saga_id, step, attempt_id, limit + LEASE_MARGIN):
                    log.warning("saga %s step %s: its claim was taken over while it runs", saga_id, step)
                    return
            except HodeiError as error:
                log.warning("saga %s step %s: its claim was not renewed: %s", saga_id, step, error)

    threading.Thread(target=renew, daemon=True, name=f"hodei-renewal-{step}").start()
    try:
        yield
    finally:
        done.set()
