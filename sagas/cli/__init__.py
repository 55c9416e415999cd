"""The command line `hodei`. Importing it costs nothing but click: each command is imported when it is called."""

from sagas.cli.main import main

__all__ = ["main"]
