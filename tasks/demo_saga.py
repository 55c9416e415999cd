"""The order of `hodei demo`: three steps that work, and a fourth that fails for good when it is told to."""

from __future__ import annotations

from sagas import PermanentError, RetryPolicy, Saga, SagaContext

demo_order = Saga("demo_order")
QUICK = RetryPolicy(max_attempts=2, backoff=0.2)


@demo_order.step(retry=QUICK)
def reserve_stock(ctx: SagaContext) -> dict[str, int]:
    """Its price is what the next step charges."""
    return {"price": 42 * int(ctx.payload["quantity"])}


@reserve_stock.compensation
def release_stock(ctx: SagaContext) -> None:
    """Undone by the step's own key, whether its output was seen or not."""
    ctx.emit("StockReleased", {"key": ctx.idempotency_key})


@demo_order.step(retry=QUICK)
def charge_card(ctx: SagaContext) -> dict[str, str]:
    """The key is what a payment provider would be given."""
    return {"charge": f"{ctx.idempotency_key}:{ctx.outputs['reserve_stock']['price']}"}


@charge_card.compensation
def refund_card(ctx: SagaContext) -> None:
    """The money goes back."""
    ctx.emit("CardRefunded", {"key": ctx.idempotency_key})


@demo_order.step(retry=QUICK)
def pack(ctx: SagaContext) -> None:
    """Has no undo: nothing of it is left outside."""


@demo_order.step(retry=QUICK)
def ship(ctx: SagaContext) -> dict[str, str]:
    """The late step."""
    if ctx.payload.get("carrier") == "on strike":
        raise PermanentError("the carrier is on strike")
    return {"parcel": str(ctx.saga_id)[:8]}
