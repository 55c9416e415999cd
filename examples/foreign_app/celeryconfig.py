"""This app's own settings; `sagas.install` leaves them alone."""

import os

broker_url = os.environ["PROJ_BROKER_URL"]
accept_content = ["json"]
task_default_queue = "proj"
timezone = "Europe/Madrid"
