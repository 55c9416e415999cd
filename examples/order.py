"""The order saga of the README: stock is reserved, a card charged, a parcel sent; or all of it is undone in reverse.

HODEI_SAGA_MODULES=examples.order celery -A tasks worker
"""

from datetime import timedelta
from typing import Any

from examples.shop import carrier, psp, stock
from sagas import RetryPolicy, Saga, SagaContext

order = Saga("order", version=1, timeout=timedelta(minutes=10))


@order.step(timeout=30, retry=RetryPolicy(max_attempts=5, backoff=0.5))
def reserve_stock(ctx: SagaContext) -> dict[str, Any]:
    return {"price": stock.reserve(ctx.payload["sku"], key=ctx.idempotency_key)}


@reserve_stock.compensation
def release_stock(ctx: SagaContext) -> None:
    stock.release(key=ctx.idempotency_key)  # the step's own key: right even if its output was never seen


@order.step(idempotent=False, queue="payments")
def charge_card(ctx: SagaContext) -> dict[str, Any]:
    price = ctx.outputs["reserve_stock"]["price"]
    return {"charge": psp.charge(ctx.payload["card"], price, ref=ctx.idempotency_key)}


@charge_card.verify  # asked only when the outcome is unknown
def find_charge(ctx: SagaContext) -> dict[str, Any] | None:
    return psp.find(ref=ctx.idempotency_key)


@charge_card.compensation
def refund_card(ctx: SagaContext) -> None:
    psp.refund(ref=ctx.idempotency_key)


@order.step(pivot=True)
def ship(ctx: SagaContext) -> None:
    carrier.ship(ctx.payload.get("address", "Calle Mayor 1"), key=ctx.idempotency_key)
