"""Flower's settings: it listens on this machine alone, and programs of this machine may read its API.

Flower executes this file before it makes its application; a name that equals one of its options sets that option, and
the command line wins. Without a login Flower's API answers nobody, unless FLOWER_UNAUTHENTICATED_API opens all of it
(tasks can be started and revoked, and pages of any origin may read it). Here only reading is opened, and only to who
asks this machine by a name that is its own, so that no web page can reach it by a host name of its own.
"""

import os
from typing import Any

from flower.api import BaseApiHandler

OWN_NAMES = ("127.0.0.1", "localhost", "::1", "[::1]")

address = os.environ.get("FLOWER_ADDRESS", "127.0.0.1")

_refuse_without_login = BaseApiHandler.prepare


def _prepare(handler: Any) -> None:
    request, flower = handler.request, handler.application.options
    reading = request.method in ("GET", "HEAD")
    if not (reading and flower.address in OWN_NAMES and request.host_name in OWN_NAMES):
        _refuse_without_login(handler)


BaseApiHandler.prepare = _prepare
