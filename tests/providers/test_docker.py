"""The Docker provider on a real engine: one container for one id, found again by whoever asks, and gone at the end."""

import gc
import multiprocessing
import sys
import threading

import pytest
from celery import Celery
from docker.models.containers import Container

from providers.docker import DockerProvider
from sagas import NotReady
from sagas.jobs.ports import ProviderError, ProviderUnavailable, WorkerHandle, WorkerProvider
from sagas.jobs.requirements import Resources
from sagas.jobs.types import AssignmentId, JobId, WorkerId, WorkerSpec
from tests.harness.docker_engine import Containers, in_container, needs_engine
from tests.harness.processes import Processes
from tests.harness.wait import wait_for
from tests.providers.docker_fixtures import *  # noqa: F403
from tests.providers.docker_fixtures import MakeProvider

needs_engine()
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("docker")]

SPEC = WorkerSpec("", "server:50051")

CREATOR = """
import os, signal, sys
from docker.models.containers import Container
from providers.docker import DockerProvider
from sagas.jobs.types import WorkerId, WorkerSpec
home, broker, image, worker_id, die = sys.argv[1:]
provider = DockerProvider(home, broker, image, "host", beat=0.3)
if die == "die":
    Container.start = lambda container: os.kill(os.getpid(), signal.SIGKILL)
print("created", provider.create_worker(WorkerId(worker_id), WorkerSpec("", "server"), "token").reference)
"""


def only(provider: WorkerProvider) -> WorkerHandle:
    (handle,) = provider.find_workers()
    return handle


def agent_runs(container: Container) -> bool:
    container.reload()
    return container.status == "running" and "-m agent" in str(container.top(ps_args="-eo pid,args")["Processes"])


def test_a_worker_is_a_container_of_its_own(
    provider: DockerProvider, worker_id: WorkerId, containers: Containers, home: str, image: str
) -> None:
    """DESIGN 9: the id is the name of its infrastructure, and the labels say whose it is."""
    spec = WorkerSpec("", "server:50051", {"gpu": "no"})
    handle = provider.create_worker(worker_id, spec, "token")
    container = containers.one(worker_id)
    wait_for(lambda: agent_runs(container))
    assert handle == WorkerHandle(worker_id, container.short_id, alive=True) == only(provider)
    assert provider.is_alive(worker_id)
    expected = {"hodei.worker_id": str(worker_id), "hodei.provider": "docker", "hodei.home": home}
    assert {**expected, "hodei.label.gpu": "no"}.items() <= container.labels.items()
    assert container.attrs["Config"]["Image"] == image
    assert container.attrs["HostConfig"]["NetworkMode"] == "host"
    assert in_container(container, "id", "-un") == "hodei\n"


def test_an_agent_gets_the_brokers_credentials_and_no_others(
    provider: DockerProvider,
    worker_id: WorkerId,
    containers: Containers,
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HODEI_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("HODEI_PSP_KEY", "secret")
    provider.create_worker(worker_id, SPEC, "token")
    given = containers.one(worker_id).attrs["Config"]["Env"]
    assert "secret" not in str(given)
    expected = {
        f"HODEI_BROKER_URL={broker_url}",
        f"HODEI_WORKER_ID={worker_id}",
        "HODEI_WORKER_TOKEN=token",
        "HODEI_AGENT_HOME=/var/lib/hodei/agent",
        "HODEI_WORKER_BEAT=0.3",
    }
    assert expected <= set(given)


def test_a_specification_may_name_the_broker_as_its_worker_reaches_it(
    provider: DockerProvider, worker_id: WorkerId, containers: Containers
) -> None:
    provider.create_worker(worker_id, WorkerSpec("", "redis://broker.example:6379/0"), "token")
    assert "HODEI_BROKER_URL=redis://broker.example:6379/0" in containers.one(worker_id).attrs["Config"]["Env"]


def test_a_worker_has_the_resources_of_its_specification(
    provider: DockerProvider, worker_id: WorkerId, containers: Containers
) -> None:
    spec = WorkerSpec("", "server:50051", resources=Resources(cpu=0.5, memory=256 * 2**20))
    provider.create_worker(worker_id, spec, "token")
    host = containers.one(worker_id).attrs["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 256 * 2**20, 256 * 2**20)
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])


def test_without_resources_nothing_is_limited(
    provider: DockerProvider, worker_id: WorkerId, containers: Containers
) -> None:
    provider.create_worker(worker_id, SPEC, "token")
    host = containers.one(worker_id).attrs["HostConfig"]
    assert (host["NanoCpus"], host["Memory"]) == (0, 0)


def test_creating_twice_gives_one(provider: DockerProvider, worker_id: WorkerId, containers: Containers) -> None:
    """L7: the second call finds the first one's container, also with another token."""
    handles = [provider.create_worker(worker_id, SPEC, token) for token in ("first", "second")]
    assert handles[0] == handles[1]
    assert len(containers.of_worker(worker_id)) == 1


def test_two_that_create_at_once_give_one(
    make_docker: MakeProvider, worker_id: WorkerId, containers: Containers
) -> None:
    """L7: the engine itself decides, by the name."""
    references: list[str] = []
    meet = threading.Barrier(4)

    def create() -> None:
        provider = make_docker()
        meet.wait(10)
        references.append(provider.create_worker(worker_id, SPEC, "token").reference)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(references) == 4
    assert len(set(references)) == len(containers.of_worker(worker_id)) == 1


def test_a_worker_outlives_who_created_it_and_is_found_by_the_next(
    make_docker: MakeProvider, worker_id: WorkerId, processes: Processes, home: str, broker_url: str, image: str
) -> None:
    """L29: no state that matters lives in process memory: the provider's process is killed, a new one finds all."""
    command = [sys.executable, "-c", CREATOR, home, broker_url, image, str(worker_id), "live"]
    creator = processes.start("creator", command)
    assert creator.wait(60) == 0
    creator.kill_all()
    another = make_docker()
    assert only(another) == WorkerHandle(worker_id, creator.log().split()[-1], alive=True)
    another.destroy_worker(worker_id)
    assert another.find_workers() == []


def test_the_creator_killed_between_create_and_start_leaves_no_orphan(
    make_docker: MakeProvider,
    worker_id: WorkerId,
    processes: Processes,
    containers: Containers,
    home: str,
    broker_url: str,
    image: str,
) -> None:
    """L27: a container that was made and never started is found; it is taken over, or destroyed."""
    command = [sys.executable, "-c", CREATOR, home, broker_url, image, str(worker_id), "die"]
    assert processes.start("creator", command).wait(60) == -9
    assert containers.one(worker_id).status == "created"
    provider = make_docker()
    assert (only(provider).worker_id, only(provider).alive) == (worker_id, False)
    assert not provider.is_alive(worker_id)
    assert provider.create_worker(worker_id, SPEC, "token").reference == containers.one(worker_id).short_id
    assert provider.is_alive(worker_id)
    provider.destroy_worker(worker_id)
    assert containers.of_worker(worker_id) == []


def test_a_container_that_cannot_be_started_says_so_and_is_destroyed(
    make_docker: MakeProvider, worker_id: WorkerId, containers: Containers
) -> None:
    """US-2.1 compensation: what is half made is found by the worker's id."""
    provider = make_docker(network="no-such-network")
    with pytest.raises(ProviderError, match=r"its container cannot be started: .*no-such-network") as raised:
        provider.create_worker(worker_id, SPEC, "token")
    assert not isinstance(raised.value, NotReady)
    assert "\n" not in str(raised.value)
    assert only(provider).alive is False
    provider.destroy_worker(worker_id)
    assert containers.of_worker(worker_id) == []


def test_an_image_that_is_not_there_is_named(provider: DockerProvider, worker_id: WorkerId) -> None:
    with pytest.raises(ProviderError, match=r"no-such-image:1.*\(build it, or pull it there\)$") as raised:
        provider.create_worker(worker_id, WorkerSpec("no-such-image:1", "server:50051"), "token")
    assert not isinstance(raised.value, NotReady)
    assert provider.find_workers() == []


# The SDK leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:9"])
def test_an_engine_that_is_away_is_infrastructure_trouble(
    make_docker: MakeProvider, worker_id: WorkerId, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """DESIGN 6.8: it spends no attempt (NotReady), and each verb says so in one line."""
    provider = make_docker()
    monkeypatch.setenv("DOCKER_HOST", host)
    verbs = [lambda: provider.create_worker(worker_id, SPEC, "token"), lambda: provider.is_alive(worker_id)]
    for verb in (*verbs, provider.find_workers, provider.check):
        with pytest.raises(ProviderUnavailable) as waits:
            verb()
        assert isinstance(waits.value, NotReady) and waits.value.retry_in > 0
        assert "\n" not in str(waits.value)
    with pytest.raises(ProviderError, match="cannot be destroyed") as raised:
        provider.destroy_worker(worker_id)
    assert not isinstance(raised.value, NotReady), "its steps have many attempts, and little time to wait"
    del raised, waits
    gc.collect()
    monkeypatch.undo()
    assert provider.create_worker(worker_id, SPEC, "token").alive


def test_a_killed_container_is_not_alive_and_is_still_found(
    provider: DockerProvider, worker_id: WorkerId, containers: Containers
) -> None:
    provider.create_worker(worker_id, SPEC, "token")
    containers.one(worker_id).kill()
    wait_for(lambda: not provider.is_alive(worker_id))
    assert (only(provider).worker_id, only(provider).alive) == (worker_id, False)
    provider.destroy_worker(worker_id)
    assert containers.of_worker(worker_id) == []


def test_a_paused_agent_is_alive_and_can_be_destroyed(
    provider: DockerProvider, worker_id: WorkerId, containers: Containers
) -> None:
    """As the process provider has it: a stopped agent is one that may come back (L12)."""
    provider.create_worker(worker_id, SPEC, "token")
    containers.one(worker_id).pause()
    assert provider.is_alive(worker_id) and only(provider).alive
    provider.destroy_worker(worker_id)
    assert containers.of_worker(worker_id) == []


def test_destroying_what_is_not_there_is_fine(
    provider: DockerProvider, worker_id: WorkerId, containers: Containers
) -> None:
    provider.destroy_worker(worker_id)
    provider.create_worker(worker_id, SPEC, "token")
    provider.destroy_worker(worker_id)
    provider.destroy_worker(worker_id)
    assert containers.of_worker(worker_id) == []


def test_two_that_destroy_at_once_both_succeed(
    make_docker: MakeProvider, worker_id: WorkerId, containers: Containers
) -> None:
    make_docker().create_worker(worker_id, SPEC, "token")
    failed: list[Exception] = []

    def destroy() -> None:
        try:
            make_docker(grace=1).destroy_worker(worker_id)
        except ProviderError as error:
            failed.append(error)

    threads = [threading.Thread(target=destroy) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert containers.of_worker(worker_id) == []


def test_a_destroy_that_fails_says_so(
    provider: DockerProvider, worker_id: WorkerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L14: nobody may believe that a worker is gone when it is not."""
    provider.create_worker(worker_id, SPEC, "token")
    monkeypatch.setattr(Container, "remove", lambda container, **options: None)
    monkeypatch.setattr(DockerProvider, "PATIENCE", 0.1)
    with pytest.raises(ProviderError, match="is still exited"):
        provider.destroy_worker(worker_id)
    monkeypatch.undo()
    provider.destroy_worker(worker_id)
    assert provider.find_workers() == []


def test_workers_of_another_home_are_not_ours(make_docker: MakeProvider, worker_id: WorkerId, home: str) -> None:
    provider, other = make_docker(), make_docker(home=f"{home}-other")
    provider.create_worker(worker_id, SPEC, "token")
    assert other.find_workers() == []
    assert not other.is_alive(worker_id)
    other.destroy_worker(worker_id)
    assert provider.is_alive(worker_id)


def test_a_provider_is_used_on_both_sides_of_a_fork(provider: DockerProvider, worker_id: WorkerId) -> None:
    """A Celery worker forks its pool: a child's answer is its own, not the one that the parent waits for."""
    provider.create_worker(worker_id, SPEC, "token")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(provider.is_alive, [worker_id] * 20) == [True] * 20
    assert provider.is_alive(worker_id)


def test_it_says_what_is_missing_before_a_worker_is_asked_for(make_docker: MakeProvider) -> None:
    """Image and network are looked for; an engine that is away is in the test of that."""
    make_docker().check()
    make_docker(network=None).check()
    for wrong in ({"image": "no-such-image:1"}, {"network": "no-such-network"}):
        with pytest.raises(ProviderError, match=f"^no worker can be made: .*{next(iter(wrong.values()))}"):
            make_docker(**wrong).check()


STUBBORN = """trap '' TERM
env -i setsid sh -c 'trap "" TERM; exec sleep 300' &
wait"""


def test_an_agent_that_is_started_again_has_kept_what_it_knew(
    provider: DockerProvider, worker_id: WorkerId, containers: Containers, broker_url: str
) -> None:
    """P10: its disk outlives it in its container. The job in whose midst it died has a result."""
    provider.create_worker(worker_id, SPEC, "token")
    container, assignment_id = containers.one(worker_id), AssignmentId.new()
    directory = f"/var/lib/hodei/agent/assignments/{assignment_id}"
    command = {"argv": ["sh", "-c", STUBBORN]}
    kwargs = {"assignment_id": str(assignment_id), "job_id": str(JobId.new()), "command": command}
    with Celery("test", broker=broker_url, set_as_current=False) as app:
        app.send_task("agent.run_job", kwargs=kwargs, queue=f"worker.{worker_id}")
    sleeps = lambda: "sleep 300" in str(container.top(ps_args="-eo pid,args")["Processes"])  # noqa: E731
    wait_for(sleeps, 30)
    instance = in_container(container, "cat", "/var/lib/hodei/agent/instance.json")
    container.kill()
    wait_for(lambda: not provider.is_alive(worker_id))
    provider.create_worker(worker_id, SPEC, "another token")
    wait_for(lambda: b"agent restarted" in container.exec_run(["cat", f"{directory}/result.json"]).output, 30)
    assert in_container(container, "cat", "/var/lib/hodei/agent/instance.json") == instance
    assert not sleeps()
    assert containers.one(worker_id).id == container.id
