"""Environments of other libraries: one each, with pinned versions, made once and kept in a cache."""

import hashlib
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
INSTALL = 600.0


def python_of(name: str, cache: Path) -> str:
    """The interpreter of that library's environment, made first if need be. Raises RuntimeError, in one line."""
    requirements = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = cache.expanduser().resolve() / f"{name}-{digest}"
    python, ready = home / "bin" / "python", home / "ready"
    if not ready.exists():
        _run(name, [sys.executable, "-m", "venv", "--clear", str(home)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run(name, [*pip, "--requirement", str(requirements)])
        ready.touch()
    return str(python)


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"the environment of {name} could not be made: {reason}")
