"""What runs on a provisioned worker: a small Celery worker on its own queue, `worker.<id>`, without database access.

It takes `agent.registered, agent.run_job, agent.cancel_job, agent.ack_result, agent.shutdown`; it sends
`workers.register, workers.heartbeat, jobs.accepted, jobs.result` to the queue `control` and `jobs.log` to `logs`.
Messages are hints: each assignment is run once, however often it is sent; each result is on disk before it is
reported, and rides in every heartbeat until it is acknowledged; log records carry a number, so that a batch which
comes twice is recognised. `docs` of the messages: `agent/app.py` (in) and `agent/core.py` (out).

    python -m agent     # with HODEI_BROKER_URL, HODEI_WORKER_ID, HODEI_WORKER_TOKEN, HODEI_AGENT_HOME
"""
