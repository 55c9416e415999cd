"""All repositories on one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from models.due import DueJobs
from models.events import RecordsEvents
from models.flags import Flags
from models.health import ProviderHealth
from models.jobs import Jobs
from models.providers import Providers
from models.recovery import Recoveries
from models.runs import Runs
from models.sagas import Sagas
from models.shadows import Shadows
from models.sweeps import Sweeps
from models.workers import Workers


@dataclass(frozen=True)
class Records:
    """The verbs on the platform's rows, in the transaction of `session`."""

    session: Session
    events: RecordsEvents

    @property
    def jobs(self) -> Jobs:
        """Submission and dispatch."""
        return Jobs(self.session, self.events)

    @property
    def due(self) -> DueJobs:
        """What becomes due by itself; cancellation."""
        return DueJobs(self.session, self.events)

    @property
    def runs(self) -> Runs:
        """Acceptance, output, result."""
        return Runs(self.session, self.events)

    @property
    def workers(self) -> Workers:
        """Workers."""
        return Workers(self.session, self.events)

    @property
    def recoveries(self) -> Recoveries:
        """Jobs of workers that fell silent."""
        return Recoveries(self.session, self.events)

    @property
    def sweeps(self) -> Sweeps:
        """Workers that somebody must see to."""
        return Sweeps(self.session)

    @property
    def health(self) -> ProviderHealth:
        """What is said about providers."""
        return ProviderHealth(self.session, self.events)

    @property
    def sagas(self) -> Sagas:
        """The engine's records, read."""
        return Sagas(self.session)

    @property
    def flags(self) -> Flags:
        """Which way the sagas' work takes."""
        return Flags(self.session, self.events)

    @property
    def shadows(self) -> Shadows:
        """What sagas in the shadow of other work made of it."""
        return Shadows(self.session)

    @property
    def providers(self) -> Providers:
        """Providers and their slots."""
        return Providers(self.session)


@contextmanager
def transaction(engine: Engine, events: RecordsEvents) -> Iterator[Records]:
    """Commit at the end of the block, roll back if it raises."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        # Nobody waits without end for a lock, and nobody holds one for ever (milliseconds).
        session.execute(text("SET LOCAL lock_timeout = 5000"))
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 30000"))
        yield Records(session, events)
