"""`hodei job`: submit, list, show, logs."""

from __future__ import annotations

import shlex
import sys
from typing import Any, TextIO
from uuid import UUID

import click
from click.exceptions import Exit

from models import Job, Records
from sagas.cli.interrupts import Interrupts
from sagas.cli.report import show_table
from sagas.jobs.requirements import Requirements
from sagas.jobs.types import JobCommand, JobId, JobState
from tasks.cli.access import as_dict, platform, records, short, show_json
from tasks.cli.follow import exit_code, follow
from tasks.cli.submission import command_of, requirements_of

FIELDS = (
    *("job_id", "state", "command", "priority", "attempts", "max_attempts", "worker_id", "assignment_id"),
    *("requirements", "blocked", "retry_failed", "not_before", "cancel_requested_at", "cancel_reason"),
    *("owner_saga_id", "provisioning_saga_id", "exit_code", "error", "log_lines"),
    *("idempotency_key", "correlation_id", "actor", "created_at", "assigned_at", "started_at", "finished_at"),
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.group()
def job() -> None:
    """Submit and cancel jobs, read their state and output."""


@job.command(options_metavar="[OPTIONS] --", short_help="Submit a command as a job.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--wait", is_flag=True, help="Wait for the end, print the output, exit with the job's own code.")
@click.option(
    "--env", "env", multiple=True, metavar="NAME=VALUE", help="Add to the command's environment (repeatable)."
)
@click.option("--cwd", help="Working directory on the worker.  [default: a fresh one]")
@click.option("--timeout", type=float, metavar="SECONDS", help="Stop the command after this time: TIMED_OUT.")
@click.option(
    "--script",
    type=click.File("r", encoding="utf-8", errors="strict"),
    metavar="FILE",
    help="Run this file's text (by its #! line, or by sh); the command's words are its arguments.",
)
@click.option(
    "--stdin", type=click.File("r", errors="strict"), metavar="FILE", help="Its standard input; - is our own."
)
@click.option("--priority", type=click.IntRange(0, 9), default=5, show_default=True, help="0 is the first.")
@click.option(
    "--max-attempts",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Run it again after a run that failed or took too long, N runs in all.  [default: such a run is final]",
)
@click.option(
    "--require-label", "labels", multiple=True, metavar="NAME=VALUE", help="Only on a worker with it (repeatable)."
)
@click.option("--cpu", type=float, metavar="CORES", help="Only on a worker that was given so many.")
@click.option("--memory", metavar="SIZE", help="Only on a worker that was given so much: 512M, 2G.")
@click.option("--key", metavar="KEY", help="Submit once: the same key again gives the same job.")
@json_option
def submit(
    command: tuple[str, ...],
    wait: bool,
    env: tuple[str, ...],
    cwd: str | None,
    timeout: float | None,
    script: TextIO | None,
    stdin: TextIO | None,
    priority: int,
    max_attempts: int | None,
    labels: tuple[str, ...],
    cpu: float | None,
    memory: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Submit a command as a job: hodei job submit --wait -- sh -c 'echo hi'."""
    from tasks.messages import submit_job

    what = command_of(command, script, env, cwd, timeout, stdin)
    repeated = {} if max_attempts is None else {"max_attempts": max_attempts, "retry_failed": True}
    options: dict[str, Any] = {"requirements": requirements_of(labels, cpu, memory), "priority": priority, **repeated}
    system = platform()
    with records(system):
        pass  # what is wrong with the database is told before anything is written
    job_id: JobId | None = None
    try:
        with Interrupts() as interrupts:
            job_id = submit_job(system, what, idempotency_key=key, actor="cli", **options)
            if not wait:
                show_json({"job_id": str(job_id)}) if as_json else click.echo(str(job_id))
                return
            ended = follow(system, job_id, silent=as_json, check=interrupts.check)
    except KeyboardInterrupt:
        told = f"job {job_id} goes on; see: hodei job show {job_id}" if job_id else "interrupted; see: hodei job list"
        click.echo(f"hodei: {told}", err=True)
        raise Exit(130) from None
    if as_json:
        show_json(as_dict(ended, *FIELDS))
    raise Exit(exit_code(ended))


@job.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(list(JobState), case_sensitive=False))
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
def list_jobs(states: tuple[JobState, ...], limit: int, as_json: bool) -> None:
    """List jobs, the latest first."""
    with records() as opened:
        jobs = opened.jobs.list([JobState(state) for state in states], limit)
    if as_json:
        show_json([as_dict(one, *FIELDS) for one in jobs])
    else:
        rows = [(str(j.job_id), j.state, _code(j), short(j.created_at), _line(j)) for j in jobs]
        show_table(("JOB", "STATE", "EXIT", "SUBMITTED", "COMMAND"), rows)


@job.command()
@click.argument("job_id", type=click.UUID)
@json_option
def show(job_id: UUID, as_json: bool) -> None:
    """Show one job."""
    with records() as opened:
        found = opened.jobs.get(JobId(job_id))
    if as_json:
        show_json(as_dict(found, *FIELDS))
        return
    asked = Requirements.from_json(found.requirements)
    told = {**as_dict(found, *FIELDS), "command": _line(found), "requirements": asked if found.requirements else None}
    show_table(("FIELD", "VALUE"), [(name, str(value)) for name, value in told.items() if value is not None])


@job.command()
@click.argument("job_id", type=click.UUID)
@click.option("--reason", default="cancelled", show_default=True, help="Kept with the job.")
@json_option
def cancel(job_id: UUID, reason: str, as_json: bool) -> None:
    """Stop a job: at once if it waits, else SIGTERM, then SIGKILL to all its processes."""
    from tasks.due import cancel_job

    system = platform()
    with records(system):
        pass  # what is wrong with the database is told in one line
    found = cancel_job(system, JobId(job_id), reason, "cli")
    if as_json:
        show_json(as_dict(found, *FIELDS))
    elif found.state == JobState.CANCELLED:
        click.echo(f"job {job_id} is CANCELLED")
    elif found.finished_at is not None:
        click.echo(f"job {job_id} has ended before: {found.state}")
    else:
        click.echo(f"job {job_id} is being stopped; see: hodei job show {job_id}")


@job.command()
@click.argument("job_id", type=click.UUID)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the job has ended.")
@json_option
def logs(job_id: UUID, following: bool, as_json: bool) -> None:
    """Print the output of a job: its stdout to stdout, its stderr to stderr."""
    if following and not as_json:
        follow(platform(), JobId(job_id))
        return
    with records() as opened:
        pieces = _pieces(opened, JobId(job_id))
    if as_json:
        show_json([{"line": line, "stream": stream, "content": content} for line, stream, content in pieces])
        return
    for _, stream, content in pieces:
        target = sys.stderr if stream == "stderr" else sys.stdout
        click.echo(content, file=target, nl=False)


def _pieces(opened: Records, job_id: JobId) -> list[tuple[int, str, str]]:
    found = opened.jobs.get(job_id)
    return [(row.line_number, row.stream, row.content) for row in opened.runs.output(job_id, found.assignment_id)]


def _code(found: Job) -> str:
    return "-" if found.exit_code is None else str(found.exit_code)


def _line(found: Job) -> str:
    command = JobCommand.from_json(found.command)
    words = [] if command.script is None else ["script", command.program]
    line = shlex.join([*words, *command.argv]).replace("\n", "\\n")
    return line if len(line) <= 60 else line[:57] + "..."
