"""Somebody's Celery app, with sagas in it: `celery -A proj worker -B`."""

import os

from celery import Celery

import sagas

app = Celery("proj", include=["tasks"])
app.config_from_object("celeryconfig")
sagas.install(app, database_url=os.environ["PROJ_DATABASE_URL"], modules=["trips"])
