"""PostgreSQL refuses to run as root: how its programs are started where we are root."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sagas.errors import ConfigurationError

# The account that owns nothing, on every Linux.
NOBODY = "nobody"
# In a user namespace of its own the program takes itself for `nobody`, while its files stay root's on the disk:
# no account is made, no owner changed, no permission widened, and a checkout under /root works.
NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534")


@dataclass(frozen=True)
class Unprivileged:
    """How to run a program as somebody who is not root: words before its command, or an account."""

    prefix: tuple[str, ...] = ()
    user: str | None = None

    def give(self, path: Path) -> None:
        """Make `path` and all below it belong to the one who will run."""
        if os.geteuid() != 0:
            return
        owner = 0 if self.user is None else _uid(self.user)
        if path.stat().st_uid != owner:
            for entry in [path, *path.rglob("*")]:
                os.chown(entry, owner, -1, follow_symlinks=False)


def unprivileged(binaries: Path, *directories: Path) -> Unprivileged:
    """How programs in `binaries` are run over `directories`; nothing special unless we are root.

    Raises ConfigurationError where neither way is open.
    """
    if os.geteuid() != 0:
        return Unprivileged()
    how = Unprivileged(prefix=NAMESPACE) if _namespaces_work() else Unprivileged(user=NOBODY)
    for directory in directories:
        how.give(directory)
    if how.user is not None:
        for path in (binaries, *directories):
            _require_reachable(path, how.user)
    return how


def as_user(user: str | None) -> dict[str, Any]:
    """Keywords of `subprocess` that run a program as `user` and in no group of ours; none for None."""
    import pwd

    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


@cache
def _namespaces_work() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _require_reachable(path: Path, user: str) -> None:
    if subprocess.run(["test", "-x", str(path)], check=False, **as_user(user)).returncode:
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and the account '{user}' cannot reach {path}: run as another user, "
            "set HODEI_HOME to a directory that others can enter, or set HODEI_DATABASE_URL"
        )


def _uid(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_uid
