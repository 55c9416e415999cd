"""The application's records: SQLAlchemy models, and repositories whose verbs are the only way to change a state."""

from models.due import DueJobs
from models.flags import Flags
from models.jobs import JobNotFound, Jobs
from models.providers import ProviderNotFound, Providers
from models.records import Records, transaction
from models.runs import Answer, Runs
from models.saga import SagaRecord, StepRecord
from models.sagas import Sagas
from models.shadows import Shadows
from models.tables import Base, FeatureFlag, Job, JobLog, JobResult, Provider, ShadowComparison, Worker
from models.workers import Workers

__all__ = [
    "Answer",
    "Base",
    "DueJobs",
    "FeatureFlag",
    "Flags",
    "Job",
    "JobLog",
    "JobNotFound",
    "JobResult",
    "Jobs",
    "Provider",
    "ProviderNotFound",
    "Providers",
    "Records",
    "Runs",
    "SagaRecord",
    "Sagas",
    "ShadowComparison",
    "Shadows",
    "StepRecord",
    "Worker",
    "Workers",
    "transaction",
]
