"""The definitions that this process knows, found in the modules that it was told to load."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator

from sagas.definition import Saga
from sagas.errors import ConfigurationError, DefinitionError, UnknownSaga


class Registry:
    """Definitions by (name, version). Old versions stay registered side by side with new ones."""

    def __init__(self, sagas: Iterable[Saga] = ()) -> None:
        self._sagas: dict[tuple[str, int], Saga] = {}
        for saga in sagas:
            self.add(saga)

    def add(self, saga: Saga) -> Saga:
        if not saga.steps:
            raise DefinitionError(f"saga {saga.name!r} has no steps")
        key = (saga.name, saga.version)
        if self._sagas.setdefault(key, saga) is not saga:
            raise DefinitionError(f"saga {saga.name!r} version {saga.version} is defined twice")
        return saga

    def load_modules(self, modules: Iterable[str]) -> None:
        """Import each module and add every `Saga` among its names; a missing one is a ConfigurationError."""
        # As `celery -A` does: the working directory is importable, whatever script started the process.
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        for name in modules:
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name and (name == error.name or name.startswith(error.name + ".")):
                    raise ConfigurationError(
                        f"saga module {name!r} cannot be found; check HODEI_SAGA_MODULES and the working directory"
                    ) from None
                raise
            for value in list(vars(module).values()):
                if isinstance(value, Saga) and self._sagas.get((value.name, value.version)) is not value:
                    self.add(value)

    def get(self, name: str, version: int) -> Saga:
        try:
            return self._sagas[name, version]
        except KeyError:
            raise UnknownSaga(f"no saga {name!r} version {version} is loaded here; loaded: {self._listing()}") from None

    def latest(self, name: str) -> Saga:
        versions = [version for known, version in self._sagas if known == name]
        if not versions:
            raise UnknownSaga(f"no saga {name!r} is loaded here; loaded: {self._listing()}")
        return self._sagas[name, max(versions)]

    def __iter__(self) -> Iterator[Saga]:
        return iter(self._sagas.values())

    def __len__(self) -> int:
        return len(self._sagas)

    def _listing(self) -> str:
        return ", ".join(sorted(f"{name} v{version}" for name, version in self._sagas)) or "none"
