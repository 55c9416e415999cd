"""What the words of `hodei job submit` ask for. What they get wrong is one line and exit code 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import click
from click.exceptions import Exit

from sagas.jobs.requirements import Requirements, Resources, parse_bytes
from sagas.jobs.types import JobCommand


def refuse(problem: object) -> Exit:
    """Say it; the caller raises what this returns."""
    click.echo(f"hodei: {problem}", err=True)
    return Exit(2)


def command_of(
    argv: Sequence[str],
    script: TextIO | None,
    env: Sequence[str],
    cwd: str | None,
    timeout: float | None,
    stdin: TextIO | None,
) -> JobCommand:
    """The command, or the script with its arguments."""
    if not argv and script is None:
        raise refuse("no command; write it after two dashes: hodei job submit -- echo hi (or give --script FILE)")
    try:
        text = _text("--script", script)
        return JobCommand(tuple(argv), pairs("--env", env), cwd, _text("--stdin", stdin), timeout, text)
    except ValueError as error:
        raise refuse(error) from None


def requirements_of(labels: Sequence[str], cpu: float | None, memory: str | None) -> Requirements:
    """What the job's worker must have."""
    try:
        size = parse_bytes(memory) if memory is not None else None
    except ValueError as error:
        raise refuse(f"--memory: {error}") from None
    try:
        return Requirements(pairs("--require-label", labels), Resources(cpu, size))
    except ValueError as error:
        raise refuse(error) from None


def pairs(option: str, words: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, several times. Raises ValueError."""
    if wrong := [word for word in words if "=" not in word]:
        raise ValueError(f"{option} {wrong[0]!r}: write NAME=VALUE")
    return dict(word.split("=", 1) for word in words)


def _text(option: str, file: TextIO | None) -> str | None:
    try:
        return file.read() if file is not None else None
    except UnicodeDecodeError:
        raise ValueError(f"{option}: is not text in UTF-8") from None
