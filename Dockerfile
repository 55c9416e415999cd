# One image for every part of a system: migrations, workers, a provider host with its agents, beat, Flower.
# What a container is, its command says (docker-compose.yml has them all).
#
# Build arguments: BASE, any image with `python` 3.11 or newer, venv and pip; EXTRAS of pyproject.toml.
# Where packages come from is pip's own setting: give it PIP_INDEX_URL as a build argument where it is not the usual one.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG EXTRAS=server,flower,docker
ARG PIP_INDEX_URL
RUN python -m venv /opt/venv
WORKDIR /app
# The dependencies before the sources: a change of ours does not install them again.
COPY pyproject.toml constraints.txt ./
RUN mkdir sagas && touch README.md \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt --editable ".[${EXTRAS}]"
COPY celeryconfig.py flowerconfig.p[y] ./
COPY sagas sagas
COPY models models
COPY tasks tasks
COPY providers providers
COPY agent agent
COPY deploy/*.py deploy/
RUN python -m compileall -q .

FROM ${BASE}
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HODEI_HOME=/var/lib/hodei
# A new volume takes the owner of the directory that it covers. Sources and packages stay root's.
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/hodei --shell /usr/sbin/nologin hodei \
 && install -d -o hodei -g hodei -m 0700 /var/lib/hodei
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER hodei
CMD ["hodei", "--help"]
