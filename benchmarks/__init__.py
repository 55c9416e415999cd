"""`python -m benchmarks`: what a durable saga costs, beside the bare Celery chain and other libraries.

Every side does the same job (a few trivial steps) with the same concurrency, prefetch, acknowledgement and pool, on one
PostgreSQL that waits for its disk and one broker, in alternating runs of one session. Ratios are what counts; what can
be counted (round trips, commits, flushes, bytes) is counted without a clock.
"""
