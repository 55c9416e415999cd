"""Issue 4: requirements (labels, cpu, memory) as values: what a job asks, what a worker is given."""

import json

import pytest

from sagas.jobs.requirements import Requirements, Resources, parse_bytes, show_bytes
from sagas.jobs.types import WorkerSpec


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 2**20), ("512M", 512 * 2**20), ("2g", 2**31), ("1.5G", 3 * 2**29), ("1K", 1024), ("1T", 2**40)],
)
def test_bytes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size
    assert parse_bytes(show_bytes(size)) == size


@pytest.mark.parametrize("text", ["", "M", "x", "-1", "0", "nan", "inf", "12Q", "1 2"])
def test_what_is_no_size_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'[^\n]*' is no number of bytes"):
        parse_bytes(text)


def test_what_a_job_asks_survives_json_and_the_same_is_the_same() -> None:
    asked = Requirements({"gpu": "yes"}, Resources(cpu=2, memory=2**29))
    assert Requirements.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    assert Requirements().to_json() == {}
    assert Requirements.from_json({}) == Requirements()
    assert json.dumps(Resources(cpu=1).to_json()) == json.dumps(Resources(cpu=1.0).to_json())
    assert str(asked) == "gpu=yes, cpu 2, memory 512M"
    assert str(Requirements()) == "nothing"


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"gpu": "yes"},
        {"labels": {"a": 1}},
        {"labels": {"": "x"}},
        {"labels": {"a": "\0"}},
        {"resources": {"cpu": 0}},
        {"resources": {"cpu": True}},
        {"resources": {"cpu": float("inf")}},
        {"resources": {"memory": -1}},
        {"resources": {"memory": 1.5}},
        {"resources": {"disk": 1}},
        {"resources": "2"},
    ],
)
def test_what_asks_for_nonsense_is_one_line(data: object) -> None:
    with pytest.raises(ValueError, match=r"^re[^\n]*$"):
        Requirements.from_json(data)


def test_a_worker_is_made_with_what_its_job_asks_for() -> None:
    plain = WorkerSpec("image:latest", "server:50051", {"team": "a"}, Resources(memory=2**30))
    made = plain.meeting(Requirements({"gpu": "yes"}, Resources(cpu=0.5)))
    assert made == WorkerSpec("image:latest", "server:50051", {"team": "a", "gpu": "yes"}, Resources(0.5, 2**30))
    assert WorkerSpec.from_json(json.loads(json.dumps(made.to_json()))) == made
    older = {"image": "i", "server_address": "s", "labels": {}}
    assert WorkerSpec.from_json(older).resources == Resources(), "rows of before have none"
    with pytest.raises(ValueError, match="worker spec: resources"):
        WorkerSpec.from_json({**older, "resources": {"cpu": "2"}})
