# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that several test files share."""

from __future__ import annotations

import gc
import os
import re
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.integration import firings
from tests.integration.postgresql import database
from tests.integration.rabbitmq import broker
from tests.integration.redis_lab import cache as redis_server
from tests.lab import engine, images
from tests.lab.stack import Stack

# Files of one group run in one process, one after the other; others are alone. The group "kernel" changes what the
# kernel has once (limits of inotify) or finds faults by it; "engine" asks the engine for all that it has.
KERNEL = re.compile(
    r"test_(?:file_|health_check|inotify|logs_checks|planted|rights_hosts|service_health|sysctl|tracktion|tune)"
)
ENGINE = re.compile(r"test_(?:container|docker|healthy_stacks|network|own_traffic|packet_filter|rights_service)")
USES_THE_STACK = re.compile(r"^def \w+\((?:[^)]*, )?lab[,)]", re.MULTILINE)
# The groups that take longest, in this order.
LONGEST = ("kernel", "engine", "brokers") + tuple(
    "tests/integration/test_%s.py" % name
    for name in (
        *("pg_restore_backup", "remediate_playbook", "stack_service", "database_checks", "cache_checks"),
        *("database_causes", "controller_kills", "diagnose_playbook", "redis_large_keys", "restore_playbook"),
    )
)
ROOT = Path(__file__).resolve().parents[2]
# Requests for the servers that only the tests of the current group use: an idle stack takes a sixth of a core.
SERVERS: list[pytest.FixtureRequest] = []
FAILED = pytest.StashKey[bool]()
# The variable of the environment that says whether the engine and the images of the lab are there.
READY = "TRACKTION_TESTS_LAB_READY"


class Scheduling(LoadScopeScheduling):
    """Hands groups of test files to the processes of pytest-xdist, in the order of the items."""

    def __init__(self, config, log=None):
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid):
        return group(nodeid.partition("::")[0])


@cache
def group(file):
    """The name of the group of a test file."""
    path = ROOT / file
    if path.parent != ROOT / "tests/integration":
        return file
    if ENGINE.match(path.name):
        return "engine"
    if uses_the_stack(file) or KERNEL.match(path.name):
        return "kernel"
    text = path.read_text(encoding="utf-8")
    # Two brokers take half a minute to start.
    return "brokers" if "rabbitmq310" in text or "rabbitmq40" in text else file


@cache
def uses_the_stack(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    # Some files call a server of their own the lab.
    return bool(USES_THE_STACK.search(text)) and "\ndef lab(" not in text


def pytest_collection_modifyitems(config, items):
    """Put the longest groups first, if several processes share them.

    The unit tests come last, or first if the lab is not ready: it is made beside them. In a group, the tests that use
    the stack come last, so that it is up no longer than needed.
    """
    if hasattr(config, "workerinput"):
        rank = {name: number for number, name in enumerate(LONGEST)}
        unit = len(LONGEST) + 1 if os.environ[READY] else -1

        def place(item):
            file = item.nodeid.partition("::")[0]
            return rank.get(group(file), unit if "/unit/" in file else len(LONGEST)), uses_the_stack(file)

        items.sort(key=place)


def lab_is_ready():
    return engine.answers() and all(images.present(images.tag(suite)) for suite in images.SUITES)


def pytest_configure(config):
    # For the processes that tests start: tests/site/sitecustomize.py.
    compiled = ROOT / ".cache" / "compiled"
    compiled.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = [str(ROOT / "tests" / "site"), os.environ.get("PYTHONPATH")]
    os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, paths)), TRACKTION_TESTS_COMPILED=str(compiled))
    # With it, Python reads a piped module byte by byte, which takes a tenth of a second.
    os.environ.pop("PYTHONUNBUFFERED", None)
    # The limits of waits are for faults, not for a machine that is busy.
    os.environ.setdefault("LAB_PATIENCE", "4")
    # A stack is up as long as the tests run. Its six health checks cost 65 ms of CPU time each.
    os.environ.setdefault("LAB_HEALTH_INTERVAL", "10s")
    if hasattr(config, "workerinput"):
        # Each process has a stack of its own.
        name = os.environ.get("LAB_NAME") or "tests"
        os.environ["LAB_NAME"] = "%s-%s" % (name, config.workerinput["workerid"])
    else:
        # Asked once: each process must have the tests in the same order.
        os.environ[READY] = "yes" if lab_is_ready() else ""
        firings.start()


def pytest_sessionfinish(session, exitstatus):
    """Fail a complete run in which a check has never fired, or has never stayed quiet."""
    config = session.config
    if hasattr(config, "workerinput"):
        return
    selected = config.getoption("keyword") or config.getoption("markexpr") or config.getoption("deselect")
    complete = ROOT / "tests/integration" in [(config.invocation_params.dir / arg).resolve() for arg in config.args]
    missing = firings.missing()
    firings.end()
    if selected or not complete or exitstatus:
        return
    for kind, checks in missing.items():
        if checks:
            print("\n%d checks have never been %s: %s" % (len(checks), kind, ", ".join(checks)))
    if any(missing.values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item, nextitem):
    """Set up the fixtures of a module anew after a failure: the test may have changed what they hold.

    Stop the servers of a group after its last test, if the groups run one after the other.
    """
    if item.stash.get(FAILED, False):
        item.stash[FAILED] = False
        item.session._setupstate.teardown_exact(item.session)
    yield
    own = group(item.nodeid.partition("::")[0])
    if hasattr(item.config, "workerinput") and nextitem and group(nextitem.nodeid.partition("::")[0]) != own:
        while SERVERS:
            # A later test that asks for the server would get a new one.
            request = SERVERS.pop()
            request._fixturedef.finish(request)


def pytest_terminal_summary(terminalreporter):
    """Say why tests were run again: a busy machine, or a defect that shows now and then."""
    for report in terminalreporter.getreports("rerun"):
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = crash.message if crash else str(report.longrepr)
        terminalreporter.write_line("RERUN %s (%s) - %.300s" % (report.nodeid, report.when, " ".join(reason.split())))


def pytest_collection_finish(session):
    """Take thousands of tests out of what the garbage collector looks at, and what forks copy."""
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def lab(request):
    """The stack: the one that is up, else one of our own."""
    SERVERS.append(request)
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
    with redis_server("bookworm") as found:
        yield found


@pytest.fixture(scope="session")
def redis8():
    """Redis 8.0, with a configuration file."""
    with redis_server("trixie") as found:
        yield found


@pytest.fixture(scope="session")
def rabbitmq310(request):
    """RabbitMQ 3.10, which counts every second."""
    SERVERS.append(request)
    with broker("bookworm") as found:
        yield found


@pytest.fixture(scope="session")
def rabbitmq40(request):
    """RabbitMQ 4.0, which counts every second."""
    SERVERS.append(request)
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
