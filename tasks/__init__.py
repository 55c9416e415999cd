"""The job platform as a Celery app: `celery -A tasks worker`, `celery -A tasks beat`.

Importing the package costs nothing: the app is made when `tasks.app` is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "app":
        return import_module("tasks.celery").app
    raise AttributeError(f"module 'tasks' has no attribute {name!r}")
