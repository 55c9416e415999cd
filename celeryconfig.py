"""Celery's settings of the platform's own app. `tasks/celery.py` reads this file by its path, never by its name.

What the engine needs for its own tasks, queues and beat entries is set by `sagas.install`; here is the rest. Measured
reasons are in the comments; Celery 5.7.
"""

# JSON only, never pickle: a message from elsewhere must not be code.
accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"

# Nobody reads results of these tasks: the database is the record. Storing them costs a third more CPU a task.
task_ignore_result = True
# Flower lists tasks by these events. The event of the sender would cost half as much again, and says nothing new.
worker_send_task_events = True
task_send_sent_event = False

# A message is acknowledged when its work is done, and a worker holds no more than it works on.
task_acks_late = True
worker_prefetch_multiplier = 1
# A lost pool child is the engine's affair (attempts, leases): Celery's own requeue would loop for ever.
task_reject_on_worker_lost = False
# When the connection drops, unacknowledged messages are delivered again at once. The first copies go on: the second
# ones are refused their claims, and a stopped copy would be an attempt that the broker's trouble has spent.
worker_cancel_long_running_tasks_on_connection_loss = False

broker_connection_retry_on_startup = True
# For ever: a worker whose broker is away for an hour must be there when it comes back.
broker_connection_max_retries = None

# The clock of record is the database's; Celery's own times are UTC.
enable_utc = True
timezone = "UTC"

# Logs are the platform's business, prints of a step are its author's.
worker_hijack_root_logger = True
worker_redirect_stdouts = False
