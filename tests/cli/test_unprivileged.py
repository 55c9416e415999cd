"""PostgreSQL where we are root, where we are not, and where namespaces are forbidden."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sagas.cli import unprivileged
from sagas.cli.embedded import start_postgres
from sagas.cli.servers import postgres_answers
from sagas.errors import ConfigurationError

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="what only root has to do")


@root_only
@pytest.mark.skipif(not unprivileged._namespaces_work(), reason="user namespaces are forbidden here")
def test_root_keeps_its_files_and_permissions_where_namespaces_work(home: Path) -> None:
    server = start_postgres(home)
    try:
        assert (home / "data" / "PG_VERSION").stat().st_uid == 0
        assert home.stat().st_mode & 0o777 == 0o700
        assert home.parent.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()


@root_only
def test_root_without_namespaces_runs_it_as_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unprivileged, "_namespaces_work", lambda: False)
    home.parent.chmod(0o711)
    try:
        server = start_postgres(home)
    except ConfigurationError as error:  # a checkout under /root
        pytest.skip(str(error))
    try:
        assert psutil.Process(server.pid).uids().effective == unprivileged._uid("nobody")
        assert postgres_answers(server.url)
    finally:
        server.stop()


@root_only
def test_root_without_namespaces_in_a_closed_directory_is_told_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unprivileged, "_namespaces_work", lambda: False)
    with pytest.raises(ConfigurationError, match=r"cannot reach .*set HODEI_HOME"):
        start_postgres(home)


@pytest.mark.skipif(not unprivileged._namespaces_work(), reason="user namespaces are forbidden here")
def test_ordinary_user_needs_nothing_special(home: Path) -> None:
    """In a namespace of its own the whole process is somebody who is not root and may not become it."""
    code = (
        "import os, sys, pathlib; from sagas.cli.embedded import start_postgres; assert os.geteuid() != 0;"
        "server = start_postgres(pathlib.Path(sys.argv[1])); print(server.plan.argv[0]); server.stop()"
    )
    command = [*unprivileged.NAMESPACE, sys.executable, "-c", code, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/postgres")
