"""A Celery app whose database is not that of the environment."""

import os

from celery import Celery

import sagas

app = Celery("elsewhere", broker=os.environ.get("HODEI_BROKER_URL"))
app.conf.accept_content = ["json"]
sagas.install(app, database_url=os.environ.get("ELSEWHERE_DATABASE_URL"))
