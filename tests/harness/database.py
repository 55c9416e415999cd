"""Databases of tests: a template for each kind, migrated once, and a fresh copy for each committing test."""

import itertools
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

import psycopg2
from psycopg2 import extras, sql

from tests.harness.servers import PostgresServer, libpq_url

EPOCH = "INSERT INTO engine_epoch (since) SELECT saga_now() ON CONFLICT DO NOTHING"
Kind = Literal["empty", "engine", "full"]
"""`empty`: no tables; `engine`: the engine's migrations; `full`: the platform's too."""


class Databases:
    """Makes and drops databases on one server."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        self._templates: dict[Kind, str] = {}

    def create(self, kind: Kind = "full") -> str:
        """A fresh database of that kind; its SQLAlchemy URL."""
        name = f"test_{next(self._numbers)}"
        self._create(name, self._template(kind))
        if kind != "empty":
            # A test that crashed the server has emptied the template's unlogged table, too: without an epoch the first
            # reconcile of every later test would take it for the crash's aftermath (R13).
            Query(self.server.url(name))(EPOCH)
        return self.server.url(name)

    def drop(self, url: str) -> None:
        """Drop it, whoever is still connected."""
        self._admin(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database_name(url))))

    def _template(self, kind: Kind) -> str:
        if kind == "empty":
            return "template0"
        if kind not in self._templates:
            name = f"template_{kind}"
            self._create(name, "template0")
            _migrate(self.server.url(name), engine_only=kind == "engine")
            self._templates[kind] = name  # only now: a failed migration must fail the next test too
        return self._templates[kind]

    def _create(self, name: str, template: str) -> None:
        names = (sql.Identifier(name), sql.Identifier(template))
        self._admin(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(names[0]))
        self._admin(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))

    def _admin(self, statement: sql.Composable) -> None:
        connection = self.server.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


def _migrate(url: str, engine_only: bool) -> None:
    from sagas.store.upgrade import upgrade  # here: harness tests without tables need no engine

    upgrade(url, schema=None, engine_only=engine_only)


def database_name(url: str) -> str:
    """The database's name in a URL."""
    return urlsplit(url).path.lstrip("/")


class Query:
    """One-off SQL of a test against one database, each statement in its own transaction."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, statement: str | sql.Composable, *values: object) -> list[dict[str, Any]]:
        """Run one statement with `%s` parameters; its rows as dicts, an empty list if it returns none."""
        connection = self.connect()
        try:
            with connection.cursor(cursor_factory=extras.RealDictCursor) as cursor:
                cursor.execute(statement, values or None)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def value(self, statement: str, *values: object) -> Any:
        """The first column of the only row."""
        (row,) = self(statement, *values)
        return next(iter(row.values()))

    def connect(self, autocommit: bool = True) -> Any:
        """A psycopg2 connection, for tests that interleave transactions; the caller closes it."""
        connection = psycopg2.connect(libpq_url(self.url))
        connection.autocommit = autocommit
        return connection


MakeDatabase = Callable[..., str]
"""`make_database(kind="full") -> url`; dropped at the end of the test."""
