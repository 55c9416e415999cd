"""What the platform's sagas need from the outside, as Protocols. `tasks/` binds the real ones, a shadow saga doubles.

A method that changes rows takes the session of its (transactional) step, so that row and step commit together. A
method that finds its work done already says so by doing nothing: every one of them may be called twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from sagas.errors import HodeiError, NotReady
from sagas.jobs.types import AssignmentId, JobCommand, JobId, ProviderId, WorkerId, WorkerSpec
from sagas.types import SagaId

Session: TypeAlias = Any  # the step's `ctx.session`: SQLAlchemy's, of which this room knows nothing


class ProviderError(HodeiError):
    """A provider could not do what it was asked; what exists of the worker is still found under its id."""


class ProviderUnavailable(ProviderError, NotReady):
    """What the provider works with does not answer: infrastructure trouble, which spends no attempt of a step."""

    def __init__(self, message: str, retry_in: float = 2.0) -> None:
        super().__init__(message)
        self.retry_in = retry_in


@dataclass(frozen=True)
class WorkerHandle:
    """A worker's infrastructure as its provider sees it; `reference` is the provider's own name for it (a pid)."""

    worker_id: WorkerId
    reference: str
    alive: bool


class WorkerProvider(Protocol):
    """Where workers come from. It keeps no records but the infrastructure itself."""

    def create_worker(self, worker_id: WorkerId, spec: WorkerSpec, token: str) -> WorkerHandle:
        """Create the worker, or find it if it is there already. Raises ProviderError."""

    def destroy_worker(self, worker_id: WorkerId) -> None:
        """Return when nothing of the worker is left; one that is not there is fine. Raises ProviderError."""

    def find_workers(self) -> Sequence[WorkerHandle]:
        """Everything of this provider that exists, whoever made it and whether anybody remembers it or not."""

    def is_alive(self, worker_id: WorkerId) -> bool:
        """True while the worker's agent runs."""

    def check(self) -> None:
        """Return if a worker could be made now, as far as one can see. Raises ProviderError, which says why not."""


class CommandSender(Protocol):
    """Messages to a worker, kept for it by the broker until it listens (L4). Raises OSError when not delivered."""

    def send_registered(self, worker_id: WorkerId) -> None:
        """Tell the agent that it is registered."""

    def send_run_job(
        self, worker_id: WorkerId, assignment_id: AssignmentId, job_id: JobId, command: JobCommand
    ) -> None:
        """Ask for the job to be run; the agent runs one assignment once, however often it is asked."""

    def send_cancel_job(self, worker_id: WorkerId, assignment_id: AssignmentId, grace: float = 5) -> None:
        """Ask for the job to be stopped: SIGTERM, and after `grace` seconds SIGKILL."""

    def send_ack(self, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """Tell the agent that its result is on record, so that it stops repeating it."""

    def send_shutdown(self, worker_id: WorkerId) -> None:
        """Ask the agent to stop its jobs and to exit."""


class WorkerRegistry(Protocol):
    """The workers' rows."""

    def reserve(
        self,
        session: Session,
        worker_id: WorkerId,
        provider_id: ProviderId,
        spec: WorkerSpec,
        *,
        kept_for: str | None = None,
        replaces: WorkerId | None = None,
    ) -> None:
        """Take a slot of the provider and write the row (CREATING). Raises PermanentError if there is no slot.

        No dispatcher uses it while the saga `kept_for` goes on; it may have the slot of the worker that it `replaces`.
        """

    def issue_token(self, worker_id: WorkerId) -> str:
        """A one-time token for this worker's agent, on record when this returns; earlier ones stay good too."""

    def created(self, worker_id: WorkerId, reference: str) -> None:
        """The infrastructure exists, under this name of the provider's."""

    def is_registered(self, session: Session, worker_id: WorkerId) -> bool:
        """True when the worker's agent has registered with its token. Raises PermanentError if it never can again."""

    def ready(self, session: Session, worker_id: WorkerId, provider_id: ProviderId) -> None:
        """From here on it gets jobs; writes WorkerProvisioned. Raises PermanentError if it is not registered."""

    def retire(self, session: Session, worker_id: WorkerId) -> None:
        """No job any more; the slot stays taken until `unregister`."""

    def withdraw(self, session: Session, worker_id: WorkerId) -> None:
        """Retire a worker that has no job. Raises PermanentError if it has one."""

    def heard_since(self, worker_id: WorkerId, since: datetime) -> bool:
        """Whether its agent has given a sign of life after that instant."""

    def unregister(self, session: Session, worker_id: WorkerId) -> None:
        """Write TERMINATED and give the slot back; only after the infrastructure is gone (L14)."""


class JobBoard(Protocol):
    """The jobs' rows."""

    def check_pending(self, session: Session, job_id: JobId) -> None:
        """Raises PermanentError unless the job exists and waits for a worker."""

    def assign(self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """PENDING to ASSIGNED, the worker to BUSY. Raises PermanentError if either is no longer free."""

    def command(self, job_id: JobId) -> JobCommand:
        """What the job runs. Raises PermanentError if there is no such job."""

    def announce_assigned(
        self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId
    ) -> None:
        """Write JobAssigned."""

    def unassign(self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """Undo `assign`, if the job still has this assignment and its worker gave no sign: PENDING, the worker free."""


class RecoveryDesk(Protocol):
    """The rows of a job that goes from a silent worker to a new one. A job is locked before a worker, everywhere."""

    def came_back(self, worker_id: WorkerId, since: datetime, session: Session | None = None) -> bool:
        """Whether the worker has been heard after that instant."""

    def heartbeat_missed(
        self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId
    ) -> bool:
        """Write WorkerHeartbeatMissed; False if the job is not on that worker under that assignment any more."""

    def take_away(self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
        """Back to PENDING, and remember where it was; writes JobReassignmentRequired. False as above."""

    def give_back(self, session: Session, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """Undo `take_away`: the job is the worker's again, and a result that came in the meantime counts."""

    def replacement(self, job_id: JobId, worker_id: WorkerId) -> tuple[ProviderId, str, WorkerSpec] | None:
        """Where a worker for this job can be made in the place of that one: provider, its host, and what to make."""

    def reassign(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> None:
        """ASSIGNED to the new worker; this spends an attempt. Raises CancelSaga if the job has ended, PermanentError
        if it cannot be assigned."""

    def has_stopped(self, job_id: JobId, worker_id: WorkerId, assignment_id: AssignmentId) -> bool:
        """Undo `reassign`; True when the new worker has said how the assignment ended, or cannot say it any more."""

    def condemn(
        self, session: Session, job_id: JobId, worker_id: WorkerId, since: datetime, saga_id: SagaId
    ) -> SagaId | None:
        """The old worker gets no job any more; the saga that ends it. Raises CancelSaga if it has come back.

        None if it has come back and its job has ended elsewhere: then it is free.
        """
