"""`hodei down`: stop everything that `hodei up` started, and the agents that its workers made."""

from __future__ import annotations

import contextlib
import json

import click
import psutil

from sagas.cli import embedded
from sagas.cli.processes import Identity, forget_socket_directory, gone, stop_process
from sagas.cli.supervise import Supervisor, stop_leftovers
from sagas.cli.system import Home, read_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def down(as_json: bool) -> None:
    """Stop everything that `hodei up` started: workers, agents, and the servers last. Data stay."""
    home = Home.from_environment()
    stopped = False
    if home.path.exists():
        with home.locked():
            stopped = stop_system(home)
    if as_json:
        click.echo(json.dumps({"stopped": stopped, "home": str(home.path)}))
    else:
        click.echo(f"stopped what ran in {home.path}" if stopped else f"nothing was running in {home.path}")


def stop_system(home: Home, agents: bool = True) -> bool:
    """Stop whatever of a system runs in `home`, in whatever state it is; whether anything ran.

    In this order, so that nobody misses the one it needs: workers and beat, agents, servers (PostgreSQL last).
    """
    supervisor = home.supervisor()
    ran = supervisor is not None and supervisor.is_alive()
    if ran:
        Supervisor(home).stop_work()
    ran = bool(agents and stop_agents(home)) or ran
    stop_leftovers(home)
    embedded.stop_earlier_valkey(home.valkey)
    embedded.stop_earlier_postgres(home.postgres)
    for directory in (home.path, home.postgres):
        forget_socket_directory(directory)
    home.forget()
    return ran


def stop_agents(home: Home) -> int:
    """Stop the job agents whose pid files lie in `home`, with the jobs that they run; how many there were."""
    stopped = 0
    for file in home.path.glob("agents/*/agent.pid"):
        content = read_json(file)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            process = Identity(int(content["pid"]), float(content["started"])).process()
            if process is not None:
                _stop_agent(process)
                stopped += 1
        file.unlink(missing_ok=True)
    return stopped


def _stop_agent(agent: psutil.Process) -> None:
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = agent.children(recursive=True)
    stop_process(agent, patience=5.0)
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    gone(family, 5.0)
