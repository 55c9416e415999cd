"""The README does what it says: every block of it is run, on a real worker, from the built wheel. L50, L76."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import psycopg2
import pytest

from sagas.cli.main import cli
from sagas.settings import Settings
from sagas.types import SagaId
from tests.harness.database import Query
from tests.harness.processes import ROOT, Processes
from tests.harness.servers import libpq_url
from tests.harness.wait import wait_for
from tests.ways_in.conftest import Environment, alone

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
ROWS = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in README.splitlines() if line[:1] == "|"]


def block(language: str, beginning: str) -> str:
    """The one block of that language that has this text in it."""
    (found,) = [text for kind, text in BLOCKS if kind == language and beginning in text]
    return str(found)


def commands(beginning: str) -> list[str]:
    """The lines of a shell block, without their comments."""
    lines = block("sh", beginning).splitlines()
    return [" ".join(shlex.quote(word) for word in shlex.split(line, comments=True)) for line in lines]


def test_every_block_is_run_by_a_test_here() -> None:
    beginnings = [text.splitlines()[0] for _, text in BLOCKS]
    assert len(beginnings) == 10, "a new block needs a test"
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "sql"}


def test_the_saga_is_the_example() -> None:
    assert (ROOT / "examples" / "order.py").read_text().endswith('"""\n\n' + block("python", 'Saga("order"'))


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    for command in commands("make demo"):
        assert re.search(rf"^{command.removeprefix('make ')}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.wheel
@pytest.mark.timeout(300)
@pytest.mark.database("empty")
def test_it_runs_from_the_wheel_in_an_app_of_ones_own(
    server_environment: Environment,
    client_environment: Environment,
    processes: Processes,
    database_url: str,
    broker_url: str,
    query: Query,
    tmp_path: Path,
) -> None:
    directory = tmp_path / "shop"
    shutil.copytree(ROOT / "examples", directory / "examples", ignore=shutil.ignore_patterns("foreign_app"))
    (directory / "proj.py").write_text(block("python", "# proj.py"))
    servers = {"HODEI_DATABASE_URL": libpq_url(database_url), "HODEI_BROKER_URL": broker_url}

    def run(line: str) -> str:
        return server_environment.ok(*shlex.split(line, comments=True), cwd=directory, **servers)

    install, export, upgrade, *background, start, listing = block("sh", "hodei-sagas[server]").splitlines()
    assert install.startswith("pip install ") and export.startswith("export ")
    run(upgrade)
    for number, line in enumerate(background):
        assert line.endswith(" &")
        name, *words = shlex.split(line.removesuffix(" &"))
        command = [server_environment.program(name), *words]
        processes.start(f"background{number}", command, {**servers, "PYTHONPATH": ""}, cwd=directory)
    wait_for(
        lambda: query.value("SELECT count(*) FROM saga_definitions WHERE name = 'order'"), 60, processes.started[0].tail
    )
    assert "COMPLETED" in run(start)
    assert " order " in run(listing)

    over_the_broker = block("python", 'idempotency_key="order-42"')
    assert client_environment.ok("python", "-c", over_the_broker, cwd=tmp_path, **servers) == "COMPLETED\n"
    in_a_transaction = block("python", "import psycopg2")
    assert server_environment.ok("python", "-c", in_a_transaction, cwd=tmp_path, **servers) == "COMPLETED\n"
    client_environment.ok("python", "-c", block("python", "send_task"), cwd=tmp_path, **servers)
    connection = psycopg2.connect(libpq_url(database_url))
    with connection, connection.cursor() as cursor:
        cursor.execute(block("sql", "start_saga"))
    connection.close()

    def states() -> list[str]:
        return [row["state"] for row in query("SELECT state FROM saga_instances")]

    wait_for(lambda: states() == ["COMPLETED"] * 5, 30, lambda: str(states()))


@pytest.mark.slow
@pytest.mark.database("empty")
def test_it_runs_from_the_checkout_without_an_app(
    processes: Processes, database_url: str, broker_url: str, tmp_path: Path, query: Query
) -> None:
    path = f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin"
    servers = {"HODEI_DATABASE_URL": database_url, "HODEI_BROKER_URL": broker_url, "PATH": path, "PYTHONPATH": ""}
    ledger = {"ORDER_LEDGER": str(tmp_path / "ledger")}
    upgrade, *background = block("sh", "celery -A tasks worker").splitlines()
    subprocess.run(["sh", "-c", upgrade], cwd=ROOT, env=alone(**servers), check=True, timeout=60, capture_output=True)
    for number, line in enumerate(background):
        command = "exec env " + line.removesuffix(" &") + (f" -s {tmp_path}/beat --pidfile=" if "beat" in line else "")
        processes.start(f"background{number}", ["sh", "-c", command], {**servers, **ledger}, cwd=ROOT)
    wait_for(
        lambda: query.value("SELECT count(*) FROM saga_definitions WHERE name = 'order'"), 60, processes.started[0].tail
    )
    query('SELECT start_saga(\'order\', \'{"sku": "A1", "card": "tok_1"}\')')
    wait_for(lambda: query.value("SELECT state FROM saga_instances") == "COMPLETED", 30)


@pytest.mark.parametrize("line", commands("hodei up"))
def test_every_command_of_the_list_exists_with_its_options(line: str) -> None:
    _hodei, *words = shlex.split(re.sub(r"\bID\b", str(SagaId.new()), line))
    command: click.Command = cli
    context = click.Context(cli, info_name="hodei")
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    context = command.make_context("hodei", words, resilient_parsing=False)
    assert not context.args


def test_the_settings_are_those_of_the_code() -> None:
    table = {row[0].strip("`"): row[1].strip("`") for row in ROWS if row[0].startswith("`HODEI_")}
    code = {f"HODEI_{name.upper()}": default for name, default in vars(Settings()).items()}
    assert set(table) == set(code)
    for name, default in code.items():
        if isinstance(default, int | float):
            assert float(table[name]) == default, name


def test_the_rooms_are_there() -> None:
    rooms = [name for row in ROWS for name in re.findall(r"`([\w/]+/)`", row[0])]
    assert len(rooms) >= 10
    assert [name for name in rooms if not (ROOT / name).is_dir()] == []


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
