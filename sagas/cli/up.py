"""`hodei up`: start the embedded system in the background and wait until it is healthy."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import click

from sagas.cli import embedded
from sagas.cli.down import stop_system
from sagas.cli.health import wait_until_healthy
from sagas.cli.interrupts import Interrupts
from sagas.cli.processes import free_port, require_free_port
from sagas.cli.programs import PLATFORM_APP, Program, load_app, programs, user_queues
from sagas.cli.report import show_system
from sagas.cli.servers import create_database, postgres_answers, require_broker, require_database, valkey_answers
from sagas.cli.supervise import StartWatch, Supervisor
from sagas.cli.system import Home, System
from sagas.errors import ConfigurationError
from sagas.settings import normalise_database_url


@dataclass(frozen=True)
class Options:
    """What the command line of `up` says."""

    app: str
    modules: str | None
    concurrency: int | None
    flower: bool
    flower_port: int | None


@click.command()
@click.option("-A", "--app", default=PLATFORM_APP, show_default=True, help="The Celery app, as in `celery -A`.")
@click.option("--modules", help="Comma-separated modules with sagas (sets HODEI_SAGA_MODULES).")
@click.option("--concurrency", type=click.IntRange(min=1), help="Processes of the worker for steps.  [default: cores]")
@click.option("--no-flower", "no_flower", is_flag=True, help="Leave Flower out.")
@click.option("--flower-port", type=click.IntRange(1, 65535), help="Flower's port.  [default: a free one]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def up(
    app: str, modules: str | None, concurrency: int | None, no_flower: bool, flower_port: int | None, as_json: bool
) -> None:
    """Start the embedded system in the background and wait until it is healthy.

    HODEI_DATABASE_URL and HODEI_BROKER_URL, where they are set, name the servers to use; a server that they do not
    name is started in HODEI_HOME.
    """
    home = Home.from_environment()
    home.make()
    say: Callable[[str], None] = (lambda _: None) if as_json else (lambda line: click.echo(line, err=True))
    with home.locked():
        system = home.running()
        already = system is not None
        if system is None:
            system = start_system(home, Options(app, modules, concurrency, not no_flower, flower_port), say)
    if as_json:
        click.echo(json.dumps({"already_running": already, "home": str(home.path), **asdict(system)}, indent=2))
        return
    if already:
        click.echo(f"already running in {home.path} (stop it with `hodei down`)")
    show_system(home, system)


def start_system(home: Home, options: Options, say: Callable[[str], None]) -> System:
    """Start servers, tables and processes; all or nothing: whatever goes wrong, what was started is stopped."""
    flower_port = _flower_port(options)
    database_url = normalise_database_url(os.environ.get("HODEI_DATABASE_URL"))
    broker_url = os.environ.get("HODEI_BROKER_URL") or None
    if database_url:
        require_database(database_url)
    if broker_url:
        require_broker(broker_url)
    with Interrupts() as interrupts:
        try:
            # What a killed run has left. Its agents may go on: they find the broker again, on the same port.
            stop_system(home, agents=False)
            servers = _plan_servers(home, database_url, broker_url)
            urls = {plan.name: plan.url for plan in servers}
            given = database_url or urls["postgres"], broker_url or urls["valkey"]
            system = _start(home, options, servers, given, flower_port, say, interrupts)
            interrupts.check()
            home.record(system)
            return system
        except BaseException:
            interrupts.ignore()  # a second Ctrl-C must not leave half of it behind
            say("stopping what was started ...")
            stop_system(home)
            interrupts.check()  # what went wrong may have been the work of the same Ctrl-C
            raise


def _plan_servers(home: Home, database_url: str | None, broker_url: str | None) -> list[embedded.Plan]:
    plans = [] if database_url else [embedded.plan_postgres(home.postgres)]
    return plans if broker_url else [*plans, embedded.plan_valkey(home.valkey)]


def _start(
    home: Home,
    options: Options,
    servers: list[embedded.Plan],
    urls: tuple[str, str],
    flower_port: int | None,
    say: Callable[[str], None],
    interrupts: Interrupts,
) -> System:
    database_url, broker_url = urls
    os.environ.update(_environment(home, database_url, broker_url, options.modules))
    app = load_app(options.app)
    work = programs(home, options.app, user_queues(app), options.concurrency, flower_port)
    supervisor = Supervisor(home)
    interrupts.check()
    say(f"starting {', '.join(plan.name for plan in servers) or 'the supervisor'} ...")
    identity = supervisor.start([*(_server(plan) for plan in servers), *work], dict(os.environ))
    watch = StartWatch(supervisor)

    def check() -> None:
        interrupts.check()
        watch.check()

    _await_servers(servers, check)
    say("making the tables ...")
    upgrade_database(database_url)
    interrupts.check()
    say(f"starting {', '.join(program.name for program in work)} ...")
    supervisor.start_work()
    nodes = [program.node for program in work if program.node]
    flower_url = f"http://127.0.0.1:{flower_port}" if flower_port else None
    wait_until_healthy(app, nodes, flower_url, supervisor.states, check)
    return System(
        database_url,
        broker_url,
        flower_url,
        identity.pid,
        identity.started,
        options.app,
        nodes,
        [plan.name for plan in servers],
    )


def upgrade_database(database_url: str, engine_only: bool = False) -> None:
    """Bring the tables to the newest version."""
    from sagas.settings import load
    from sagas.store.upgrade import upgrade

    upgrade(database_url, schema=load().db_schema, engine_only=engine_only)


def _environment(home: Home, database_url: str, broker_url: str, modules: str | None) -> dict[str, str]:
    named = {"HODEI_SAGA_MODULES": modules} if modules else {}
    return {
        "HODEI_HOME": str(home.path),
        "HODEI_DATABASE_URL": database_url,
        "HODEI_BROKER_URL": broker_url,
        "PYTHONUNBUFFERED": "1",
        **named,
    }


def _server(plan: embedded.Plan) -> Program:
    name = signal.Signals(plan.stop_signal).name.removeprefix("SIG")
    return Program(plan.name, plan.argv, plan.log, stop_signal=name, user=plan.user, server=True)


def _await_servers(servers: list[embedded.Plan], check: Callable[[], None]) -> None:
    answers = {"postgres": postgres_answers, "valkey": valkey_answers}
    for plan in servers:
        deadline = time.monotonic() + embedded.START_TIMEOUT
        while not answers[plan.name](plan.url):
            check()
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"{plan.name} does not answer: {embedded.last_line(plan.log)} (see {plan.log})"
                )
            time.sleep(0.05)
        if plan.name == "postgres":
            create_database(plan.url)


def _flower_port(options: Options) -> int | None:
    if not options.flower:
        return None
    return require_free_port(options.flower_port, "Flower") if options.flower_port else free_port()
