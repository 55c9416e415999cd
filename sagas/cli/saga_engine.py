"""The engine that the saga commands work on: that of the app in `celery -A app saga`, else one of the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from sagas.errors import BrokerUnavailable, HodeiError, InvalidPayload, StorageUnavailable
from sagas.types import SagaId

if TYPE_CHECKING:
    from celery import Celery

    from sagas.runtime.engine import Engine

UNDEFINED_TABLE = "42P01"
SERVER_PACKAGES = ("alembic", "psutil", "psycopg2", "sqlalchemy")


class OneLineGroup(click.Group):
    """A group that also `celery` can run: an error that a user can mend is one line and exit code 1 there, too."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HodeiError as error:
            click.echo(f"hodei: {error}", err=True)
        except ModuleNotFoundError as error:
            if error.name not in SERVER_PACKAGES:
                raise
            click.echo(f"hodei: {error.name} is not installed: pip install 'hodei-sagas[server]'", err=True)
        return ctx.exit(1)


def current_engine(*, definitions: bool = False) -> Engine:
    """Raises ConfigurationError without a database. `definitions`: with the modules of HODEI_SAGA_MODULES loaded."""
    from sagas.runtime.engine import engine_of

    app = getattr(click.get_current_context().obj, "app", None)
    if app is None:
        return engine_of_settings(definitions=definitions)
    engine = engine_of(app)
    engine.settings.require_database()
    return engine


def engine_of_settings(*, definitions: bool) -> Engine:
    """An engine without an app of its own, for reading rows and for starting what workers run."""
    from celery import Celery

    from sagas.registry import Registry
    from sagas.runtime.engine import Engine
    from sagas.settings import load

    settings = load()
    settings.require_database()
    registry = Registry()
    if definitions:
        registry.load_modules(settings.saga_modules)
    app = Celery("hodei", broker=settings.require_broker(), set_as_current=False)
    app.conf.update(accept_content=["json"], broker_connection_timeout=5)
    return Engine(app, settings, registry)


def require_broker_of(app: Celery) -> None:
    """Raises BrokerUnavailable, with the reason in one line, if the app's broker does not answer."""
    from sagas.cli.servers import without_password

    with app.connection_for_write() as connection:
        connection.transport_options = {"socket_connect_timeout": 5, **(connection.transport_options or {})}
        try:
            connection.connect()
        # What a transport raises depends on its kind.
        except Exception as error:  # noqa: BLE001
            where = without_password(connection.as_uri(include_password=False))
            raise BrokerUnavailable(f"the broker {where} does not answer: {_first_line(error)}") from None


def saga_id_of(text: str) -> SagaId:
    """Raises InvalidPayload for what is no UUID."""
    try:
        return SagaId(text)
    except ValueError:
        raise InvalidPayload(f"{text!r} is no saga id (a UUID is meant)") from None


@contextmanager
def reading() -> Iterator[None]:
    """What is wrong with the database is one line: StorageUnavailable."""
    from sqlalchemy.exc import OperationalError, ProgrammingError

    try:
        yield
    except OperationalError as error:
        raise StorageUnavailable(f"PostgreSQL does not answer: {_first_line(error.orig)}") from None
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) == UNDEFINED_TABLE:
            raise StorageUnavailable("the database has no engine tables yet; run: hodei db upgrade") from None
        raise


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
