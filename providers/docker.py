"""Workers that are containers of a Docker engine: `python -m agent` in the image that our Dockerfile builds.

What exists is what the engine has: a container's name is made from its worker's id, and its labels say whose it is. So
nothing is lost by a crash between creating and recording (L27), and the engine itself sees to it that there is one.

An agent's home is in its container's own layer: it, and the results in it, survive an end of the agent, until destroy.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import RequestException, Timeout

from sagas.jobs.ports import ProviderError, ProviderUnavailable, WorkerHandle
from sagas.jobs.types import WorkerId, WorkerSpec

WORKER, HOME, PROVIDER, OWN_LABEL = "hodei.worker_id", "hodei.home", "hodei.provider", "hodei.label."
AGENT_HOME = "/var/lib/hodei/agent"  # the image's user may write there
RUNS = ("running", "paused")
CONFLICT = 409


class DockerProvider:
    """Creates and destroys containers on the engine of DOCKER_HOST, or of this machine.

    `home` is this provider's name on its engine: containers of another home are somebody else's. `image` is for specs
    that name none, `network` what the engine calls it (`host`, or one made with `docker network create`; None is its
    default one). `beat` is the agents' heartbeat in seconds; a destroyed agent has `grace` seconds to end by itself.
    """

    TIMEOUT = 30.0  # seconds for one answer of the engine
    PATIENCE = 20.0  # seconds for what somebody else does to the same container at the same time

    def __init__(
        self,
        home: str,
        broker_url: str,
        image: str,
        network: str | None = None,
        beat: float = 5.0,
        grace: float = 8.0,
    ) -> None:
        self._home = home
        self._broker_url = broker_url
        self._image = image
        self._network = network
        self._beat = beat
        self._grace = grace

    def create_worker(self, worker_id: WorkerId, spec: WorkerSpec, token: str) -> WorkerHandle:
        """Start the worker's container unless it runs; one that has ended is started again, with what is in it.

        Raises ProviderError if it cannot be started, ProviderUnavailable if the engine does not answer.
        """
        with self._engine(f"worker {worker_id}: its container cannot be started") as engine:
            container = self._find(engine, worker_id) or self._create(engine, worker_id, spec, token)
            if container.status not in RUNS:
                container.start()
            return WorkerHandle(worker_id, container.short_id, alive=True)

    def destroy_worker(self, worker_id: WorkerId) -> None:
        """SIGTERM to the agent, then SIGKILL for all that is in its container; then the container itself.

        Raises ProviderError if it is still there. Also while the engine does not answer: whoever destroys is patient
        by many attempts, where waiting (ProviderUnavailable) would end with the step's time-out.
        """
        with self._engine(f"worker {worker_id}: its container cannot be destroyed", away=ProviderError) as engine:
            container = self._find(engine, worker_id)
            if container is None:
                return
            with contextlib.suppress(NotFound):
                if container.status == "running":
                    container.stop(timeout=max(1, round(self._grace)))
                _remove(container)
            self._await_gone(engine, worker_id)

    def find_workers(self) -> Sequence[WorkerHandle]:
        """Every worker of which a container is left, whatever has become of it. Raises ProviderError."""
        with self._engine("containers cannot be listed") as engine:
            found = engine.api.containers(all=True, filters={"label": [f"{HOME}={self._home}", WORKER]})
        return [
            WorkerHandle(WorkerId(one["Labels"][WORKER]), one["Id"][:12], alive=one["State"] in RUNS) for one in found
        ]

    def is_alive(self, worker_id: WorkerId) -> bool:
        """True while the worker's agent, which is its container's program, runs. Raises ProviderError."""
        with self._engine(f"worker {worker_id}: its container cannot be looked at") as engine:
            container = self._find(engine, worker_id)
            return container is not None and container.status in RUNS

    def check(self) -> None:
        """Whether the engine answers, and has the image and the network. Raises ProviderError."""
        with self._engine("no worker can be made") as engine:
            engine.images.get(self._image)
            if self._network is not None:
                engine.networks.get(self._network)

    @contextlib.contextmanager
    def _engine(self, trouble: str, away: type[ProviderError] = ProviderUnavailable) -> Iterator[docker.DockerClient]:
        """The engine, asked anew each time: a connection that is kept would be inherited by forked children.

        What the SDK raises becomes a ProviderError that begins with `trouble`; it is `away` when no answer came.
        """
        try:
            with contextlib.closing(docker.from_env(timeout=self.TIMEOUT)) as engine:
                yield engine
        except (DockerException, RequestException, OSError) as error:
            kind = away if _is_away(error) else ProviderError
            raise kind(f"{trouble}: {_in_one_line(error)}") from error

    def _find(self, engine: docker.DockerClient, worker_id: WorkerId) -> Container | None:
        """The worker's container if it is there, and ours."""
        try:
            container = engine.containers.get(_name(worker_id))
        except NotFound:
            return None
        return container if container.labels.get(HOME) == self._home else None

    def _create(self, engine: docker.DockerClient, worker_id: WorkerId, spec: WorkerSpec, token: str) -> Container:
        """A new container, or the one that somebody else makes of the same worker at the same moment."""
        deadline = time.monotonic() + self.PATIENCE
        while True:
            try:
                return engine.containers.create(**self._options(worker_id, spec, token))
            except APIError as error:
                if error.status_code != CONFLICT or time.monotonic() > deadline:
                    raise
            if (other := self._find(engine, worker_id)) is not None:
                return other
            time.sleep(0.1)

    def _options(self, worker_id: WorkerId, spec: WorkerSpec, token: str) -> dict[str, Any]:
        limits: dict[str, Any] = {}
        if spec.resources.cpu is not None:
            limits["nano_cpus"] = int(spec.resources.cpu * 1e9)
        if spec.resources.memory is not None:
            # The same for both: no swap besides.
            limits["mem_limit"] = limits["memswap_limit"] = spec.resources.memory
        return {
            "name": _name(worker_id),
            "image": spec.image or self._image,
            "command": ["python", "-m", "agent"],
            "environment": self._environment(worker_id, spec, token),
            "labels": self._labels(worker_id, spec.labels),
            "network_mode": self._network,
            "init": True,  # reaps what jobs leave behind, hands on signals
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            **limits,
        }

    def _environment(self, worker_id: WorkerId, spec: WorkerSpec, token: str) -> dict[str, str]:
        """All that an agent needs, and nothing of ours besides: the broker's credentials and no others."""
        return {
            "HODEI_BROKER_URL": spec.server_address if "://" in spec.server_address else self._broker_url,
            "HODEI_WORKER_ID": str(worker_id),
            "HODEI_WORKER_TOKEN": token,
            "HODEI_AGENT_HOME": AGENT_HOME,
            "HODEI_WORKER_BEAT": f"{self._beat:g}",
        }

    def _labels(self, worker_id: WorkerId, own: Mapping[str, str]) -> dict[str, str]:
        labels = {f"{OWN_LABEL}{name}": value for name, value in own.items()}
        return {**labels, WORKER: str(worker_id), PROVIDER: "docker", HOME: self._home}

    def _await_gone(self, engine: docker.DockerClient, worker_id: WorkerId) -> None:
        deadline = time.monotonic() + self.PATIENCE
        while (left := self._find(engine, worker_id)) is not None:
            if time.monotonic() > deadline:
                raise ProviderError(f"worker {worker_id}: its container {left.short_id} is still {left.status}")
            time.sleep(0.1)


def _name(worker_id: WorkerId) -> str:
    return f"hodei-worker-{worker_id}"


def _remove(container: Container) -> None:
    """With its anonymous volumes; somebody else who removes it at this moment does so for us, too."""
    try:
        container.remove(force=True, v=True)
    except APIError as error:
        if error.status_code != CONFLICT:
            raise


def _is_away(error: BaseException | None) -> bool:
    """Whether no answer came; the SDK wraps that differently at its first question to the engine."""
    while error is not None:
        if isinstance(error, (NoConnection, Timeout)):
            return True
        error = error.__cause__
    return False


def _in_one_line(error: Exception) -> str:
    text = error.explanation if isinstance(error, APIError) and error.explanation else str(error)
    told = " ".join(str(text).split())
    return f"{told} (build it, or pull it there)" if isinstance(error, ImageNotFound) else told
