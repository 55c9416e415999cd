"""Following a job from the command line: its output as it comes, its end, its exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import click

from models import Job
from sagas.jobs.types import JobId, JobState
from tasks.cli.access import records

if TYPE_CHECKING:
    from tasks.platform import Platform

POLL = 0.2  # seconds
LAST_WORDS = 10.0
"""Seconds for which the rest of the output is waited for once the job has ended: it comes by a queue of its own."""
EXIT_CODES = {JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.TIMED_OUT: 124, JobState.CANCELLED: 130}
"""For a job without a code of its own; as a shell and `timeout` have them."""


def follow(system: Platform, job_id: JobId, silent: bool = False, check: Callable[[], None] = lambda: None) -> Job:
    """Print the output of all runs as it comes (unless `silent`), return the job when it has ended. Raises JobNotFound.

    `check` raises KeyboardInterrupt if one was swallowed: the database's driver does so within a commit.
    """
    printed: dict[UUID, int] = {}  # the runs in their order, and how many pieces of each
    deadline, blocked = None, None
    while True:
        check()
        with records(system) as opened:
            job, ended = opened.jobs.get(job_id), opened.runs.ended(job_id)
            for run in (*ended, *([job.assignment_id] if job.assignment_id else [])):
                printed.setdefault(run, 0)
            pieces = [piece for run, line in printed.items() for piece in opened.runs.output(job_id, run, line)]
        if job.blocked is not None and job.blocked != blocked:
            click.echo(f"hodei: job {job_id} waits: {job.blocked}", err=True)
        blocked = job.blocked
        for piece in pieces:
            if not silent:
                click.echo(piece.content, file=sys.stderr if piece.stream == "stderr" else sys.stdout, nl=False)
            printed[piece.assignment_id] = piece.line_number
        if job.finished_at is not None:
            deadline = deadline or time.monotonic() + LAST_WORDS
            complete = all(printed[run] >= lines for run, lines in ended.items())
            if complete or time.monotonic() > deadline:
                _say_why(job)
                return job
        time.sleep(POLL)


def _say_why(job: Job) -> None:
    """The end of a job that did not end by itself."""
    if job.state in (JobState.TIMED_OUT, JobState.CANCELLED) or (job.exit_code is None and job.error):
        click.echo(f"hodei: job {job.job_id} {job.state}: {job.error or 'no reason given'}", err=True)


def exit_code(job: Job) -> int:
    """The job's own, or what its state means."""
    return job.exit_code if job.exit_code is not None else EXIT_CODES[JobState(job.state)]
