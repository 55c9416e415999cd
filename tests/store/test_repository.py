"""The seed's US-1.2 on a real PostgreSQL, and what else reads sagas back."""

from typing import Any
from uuid import UUID

import pytest

from sagas import SagaContext, SagaId, SagaNotFound, SagaState, SagaStepData, SagaStepId, SagaType, StepState
from sagas.results import DomainEvent
from sagas.store.repository import SagaRepository
from tests.store.lab import Lab


@pytest.fixture
def repository(lab: Lab) -> SagaRepository:
    lab.define("provisioning", validate={}, create={})
    lab.define("execution", validate={})
    return lab.repository


def context(saga_type: SagaType = SagaType.PROVISIONING, **fields: Any) -> SagaContext:
    return SagaContext(SagaId.new(), saga_type, **fields)


def test_save_inserts_a_saga_instance(repository: SagaRepository) -> None:
    """US-1.2: save_should_insert_saga_instance."""
    saga = context(correlation_id="corr-1", actor="actor-1")

    repository.save(saga)

    found = repository.find_by_id(saga.saga_id)
    assert found is not None
    assert (found.saga_type, found.state) == (SagaType.PROVISIONING, SagaState.PENDING)
    assert (found.correlation_id, found.actor) == ("corr-1", "actor-1")


def test_find_by_type_returns_only_matching_sagas(repository: SagaRepository) -> None:
    """US-1.2: find_by_type_should_return_only_matching_sagas."""
    repository.save(context(SagaType.PROVISIONING))
    repository.save(context(SagaType.EXECUTION))

    (found,) = repository.find_by_type(SagaType.PROVISIONING)
    assert found.saga_type == SagaType.PROVISIONING


def test_save_step_stores_compensation_data(repository: SagaRepository) -> None:
    """US-1.2: save_steps_should_store_compensation_data."""
    saga = context()
    repository.save(saga)
    step = SagaStepData(
        step_id=SagaStepId.new(),
        saga_id=saga.saga_id,
        step_name="CreateInfrastructure",
        step_order=1,
        input_data={"resource_id": "pod-123"},
        compensation_data={"action": "destroy", "resource_id": "pod-123"},
    )

    repository.save_step(step)

    found = repository.find_step_by_id(step.step_id)
    assert found is not None
    assert found.compensation_data == {"action": "destroy", "resource_id": "pod-123"}
    assert found.input_data == {"resource_id": "pod-123"}


@pytest.mark.parametrize("as_type", [str, lambda saga_id: UUID(str(saga_id)), SagaId])
def test_an_id_may_be_a_str_or_a_uuid(repository: SagaRepository, as_type: type) -> None:
    """Section 4: a str is accepted everywhere."""
    saga = context()
    repository.save(saga)

    found = repository.find_by_id(as_type(saga.saga_id))
    assert found is not None
    assert found.saga_id == saga.saga_id
    assert isinstance(found.saga_id, SagaId)


def test_what_is_not_there_is_none(repository: SagaRepository) -> None:
    assert repository.find_by_id(SagaId.new()) is None
    assert repository.find_step_by_id(SagaStepId.new()) is None
    assert repository.find_by_key("provisioning", "k") is None
    assert repository.find_by_type("nope") == []
    with pytest.raises(SagaNotFound):
        repository.status(SagaId.new())
    with pytest.raises(SagaNotFound):
        repository.result(SagaId.new())


def test_saving_a_running_saga_again_does_not_set_it_back(repository: SagaRepository, lab: Lab) -> None:
    """L25: also not one that has ended."""
    run = lab.start("execution")
    run.do("validate")
    assert run.state == "COMPLETED"

    repository.save(SagaContext(run.saga_id, SagaType.EXECUTION))
    assert run.state == "COMPLETED"


def test_find_by_state_and_correlation(repository: SagaRepository, lab: Lab) -> None:
    """US-1.2: what the three indexes are for."""
    one = lab.start("provisioning", correlation_id="c1")
    lab.start("provisioning", correlation_id="c2")
    one.do("validate")

    assert [saga.saga_id for saga in repository.find_by_state(SagaState.IN_PROGRESS)] == [one.saga_id]
    assert len(repository.find_by_state(SagaState.PENDING)) == 1
    assert [saga.saga_id for saga in repository.find_by_correlation_id("c1")] == [one.saga_id]


def test_lists_are_newest_first_and_bounded(repository: SagaRepository, lab: Lab) -> None:
    runs = []
    for _ in range(4):
        runs.append(lab.start("execution"))
        lab.advance(1)

    assert [saga.saga_id for saga in repository.latest(2)] == [runs[3].saga_id, runs[2].saga_id]
    assert len(repository.find_by_type("execution", limit=3)) == 3


def test_the_indexes_of_the_seed_exist_by_their_names(lab: Lab) -> None:
    """US-1.2, criterion 4."""
    names = {row["indexname"] for row in lab.sql("SELECT indexname FROM pg_indexes WHERE tablename = 'saga_instances'")}

    assert {"idx_saga_instances_type", "idx_saga_instances_state", "idx_saga_instances_correlation"} <= names


def test_the_columns_of_the_seed_exist(lab: Lab) -> None:
    """US-1.2, criteria 2 and 3."""
    columns: dict[str, set[str]] = {}
    for row in lab.sql("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"):
        columns.setdefault(row["table_name"], set()).add(row["column_name"])

    saga = "saga_id saga_type state correlation_id actor context started_at completed_at"
    step = "step_id saga_id step_name step_order state input_data output_data compensation_data"
    assert set(saga.split()) <= columns["saga_instances"]
    assert set(step.split()) <= columns["saga_steps"]


def test_status_tells_where_a_saga_stands(repository: SagaRepository, lab: Lab) -> None:
    """Section 4: state, current step, steps, error."""
    run = lab.start("provisioning")
    run.do("validate", output={"n": 1})
    run.do("create", outcome="failed", retry_in=60.0)

    status = repository.status(run.saga_id)
    assert (status.state, status.current_step) == (SagaState.IN_PROGRESS, "create")
    assert [(step.name, step.state, step.attempt) for step in status.steps] == [
        ("validate", StepState.COMPLETED, 1),
        ("create", StepState.PENDING, 1),
    ]
    assert status.steps[1].error == "Planned: failed"
    assert repository.result(run.saga_id) is None


def test_the_result_counts_the_failed_step_too(repository: SagaRepository, lab: Lab) -> None:
    """Section 4: steps_executed, compensations_executed, outputs, error."""
    run = lab.start("provisioning")
    run.do("validate", output={"n": 1})
    run.do("create", outcome="failed")
    run.undo("validate")

    result = repository.result(run.saga_id)
    assert result is not None
    assert (result.outcome, result.steps_executed, result.compensations_executed) == (SagaState.COMPENSATED, 2, 1)
    assert result.outputs == {"validate": {"n": 1}}
    assert result.error == "Planned: failed"
    assert repository.status(run.saga_id).current_step is None


@pytest.mark.parametrize("output", [None, False, 0, "", [], {}, [None], {"deep": {"er": [1, 2.5, "ü"]}}])
def test_outputs_come_back_as_they_were(repository: SagaRepository, lab: Lab, output: object) -> None:
    """L26: whatever JSON can hold, null included."""
    run = lab.start("provisioning")
    run.do("validate", output=output)

    assert repository.steps_of(run.saga_id)[0].output_data == output
    assert run.ask("create")["outputs"] == {"validate": output}


def test_a_recorded_event_is_read_back(repository: SagaRepository, lab: Lab) -> None:
    """One way to publish."""
    event = DomainEvent("JobQueued", "job:1", {"n": 1}, correlation_id="c", actor="me")
    number = lab.store.record_event(event)

    (found,) = repository.events_of("job:1")
    assert (found.event_id, found.event_type, found.payload, found.actor) == (number, "JobQueued", {"n": 1}, "me")
    assert repository.find_events_by_correlation_id("c") == [found]
    assert found.occurred_at == lab.now()
