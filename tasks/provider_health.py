"""A provider's host says with every beat whether workers can be made there. Provisioning believes it for a while."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from models import transaction
from sagas import HodeiError
from sagas.jobs.types import ProviderId
from sagas.store.database import connect_engine

if TYPE_CHECKING:
    from tasks.platform import Platform

logger = logging.getLogger(__name__)


def watch(platform: Platform, providers: Mapping[str, ProviderId]) -> None:
    """Say it for ever, every HODEI_WORKER_BEAT seconds; each word holds for HODEI_WORKER_DEAD seconds."""
    settings = platform.settings
    # A connection for each beat: one that stays open would be inherited by every child that is forked later.
    sql = connect_engine(settings.require_database(), schema=settings.db_schema, poolclass=NullPool)
    pause = threading.Event()
    while providers:
        say(platform, sql, list(providers.values()))
        pause.wait(settings.worker_beat)


def say(platform: Platform, sql: Engine, providers: list[ProviderId]) -> str | None:
    """Say it once of this host's providers, and return what was said: why no workers are made, None if they are."""
    trouble = trouble_of(platform)
    try:
        with transaction(sql, platform.engine.orchestrator) as records:
            for provider_id in providers:
                records.health.note(provider_id, trouble, platform.settings.worker_dead)
    except (SQLAlchemyError, HodeiError) as error:
        logger.warning("provider health cannot be written: %s", str(error).splitlines()[0])
    return trouble


def trouble_of(platform: Platform) -> str | None:
    """In one line."""
    try:
        platform.provider().check()
    except HodeiError as error:
        return str(error).splitlines()[0]
    return None
