"""`python -m providers.launch LOCK_FD`: become the parent of a detached agent, print its pid, end.

A process of its own, because a Celery worker has threads, which a fork would not survive, and must not be the parent
of an agent that outlives it. It inherits the worker's lock: whoever waits for that sees the agent's environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Fork, and turn the child into the agent, in a session of its own."""
    lock = int(sys.argv[1])
    begun, closed_by_exec = os.pipe()
    pid = os.fork()
    if pid:
        os.close(closed_by_exec)
        os.read(begun, 1)  # nothing comes: it ends when the child has become the agent, or has died
        os.write(1, f"{pid}\n".encode())
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(Path(os.environ["HODEI_AGENT_HOME"]) / "agent.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(lock)
    os.execv(sys.executable, [sys.executable, "-m", "agent"])


if __name__ == "__main__":
    main()
