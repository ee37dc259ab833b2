# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that several test files share."""

from __future__ import annotations

import re

import pytest

from tests.integration.postgresql import database
from tests.integration.rabbitmq import broker
from tests.integration.redis_lab import cache
from tests.lab.stack import Stack

# Files of one group run in one process, one after the other. These use the stack, change what the whole kernel has
# once (limits of inotify), or ask the engine for all that it has; each other file is a group of its own.
ONE_AT_A_TIME = re.compile(
    r"test_(?:container|docker|file_|health_check|inotify|logs_checks|network|packet_filter|planted|rabbitmq|remediate_lab"
    r"|rights_hosts|service_health|sysctl|tracktion|tune)"
)


def pytest_collection_modifyitems(items):
    """Give each test its group for ``--dist loadgroup``."""
    for item in items:
        group = "lab" if ONE_AT_A_TIME.match(item.path.name) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def lab():
    """The stack: the one that is up, else one of our own."""
    stack = Stack()
    ours = not stack.exists
    stack.up()
    yield stack
    if ours:
        stack.down()


@pytest.fixture(scope="session")
def pg15():
    """PostgreSQL 15, without TLS."""
    with database("bookworm") as found:
        yield found


@pytest.fixture(scope="session")
def pg17():
    """PostgreSQL 17, with TLS."""
    with database("trixie", tls=True) as found:
        yield found


@pytest.fixture(scope="session")
def redis7():
    """Redis 7.0, with a configuration file."""
    with cache("bookworm") as found:
        yield found


@pytest.fixture(scope="session")
def redis8():
    """Redis 8.0, with a configuration file."""
    with cache("trixie") as found:
        yield found


@pytest.fixture(scope="session")
def rabbitmq310():
    """RabbitMQ 3.10, which counts every second."""
    with broker("bookworm") as found:
        yield found


@pytest.fixture(scope="session")
def rabbitmq40():
    """RabbitMQ 4.0, which counts every second."""
    with broker("trixie") as found:
        yield found


@pytest.fixture(params=["redis7", "redis8"])
def each_redis(request):
    """Both generations of Redis, empty and as they were started."""
    found = request.getfixturevalue(request.param)
    client = found.redis()
    client.flushall()
    client.config_set("maxmemory", "256mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_resetstat()
    client.slowlog_reset()
    return found
