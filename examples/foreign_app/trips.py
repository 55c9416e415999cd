"""This app's saga: a trip is a flight and a hotel, or neither."""

from typing import Any

from models import note
from sagas import PermanentError, Saga, SagaContext

trip = Saga("trip")


@trip.step
def book_flight(ctx: SagaContext) -> dict[str, Any]:
    note("flight", ctx.idempotency_key)
    return {"flight": f"to {ctx.payload['to']}"}


@book_flight.compensation
def cancel_flight(ctx: SagaContext) -> None:
    note("no flight", ctx.idempotency_key)


@trip.step
def book_hotel(ctx: SagaContext) -> None:
    if ctx.payload["to"] == "Atlantis":
        raise PermanentError("no hotel in Atlantis")
    note("hotel", ctx.idempotency_key)
