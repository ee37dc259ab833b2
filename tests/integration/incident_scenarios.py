# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scenarios of real faults on the stack of the lab, with the causes that a report has to list first.

The list was frozen before the cause rows were written. ``tests/bench/bench_incidents.py`` runs all of them and prints
how often the first incident is right; ``test_incidents.py`` runs a few, and
``tests/unit/plugins/plugin_utils/test__recorded_incidents.py`` replays the recorded findings of all.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.faults import containers as container_faults
from tests.lab.faults import database as database_faults
from tests.lab.faults import file_watching as inotify_faults
from tests.lab.faults import message_queue as queue_faults
from tests.lab.shell import wait_until
from tests.lab.throwaway import inspect

# Checks that may follow from a service that does not work.
DOWN = (
    "service_health.",
    "network.path_",
    "network.published_port_not_answering",
    "network.service_not_looked_from",
    "network.not_on_common_network",
    "network.name_leads_elsewhere",
    "containers.unhealthy",
    "containers.stopped",
    "containers.crash_loop",
    "message_queue.no_consumer",
    "message_queue.too_few_consumers",
    "message_queue.backlog",
    "message_queue.growing",
    "message_queue.head_message_age",
    "message_queue.unreachable",
    "message_queue.management_unreachable",
    "message_queue.missing_queue",
    "database.unreachable",
    "cache.unreachable",
    "cache.not_serving",
    "file_watching.watcher_",
    "audio_processing.unreachable",
    "audio_processing.pending_old",
    "logs.",
)
LOCKS = (
    "database.blocked_sessions",
    "database.long_transaction",
    "database.idle_in_transaction",
    "database.long_query",
    "database.lock_queue",
    "database.connections_used",
    "database.blocked_by_server",
    "database.xmin_held",
)


@dataclass(frozen=True)
class Cause:
    """An expected cause: one of these checks, about an object with this text; ``follows`` are possible effects.

    A text that ends with a dot or an underscore is the beginning of an id.
    """

    roots: tuple[str, ...]
    object: str = ""
    follows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """Faults of the lab by name, and functions that break more. ``variables`` are extra variables of the diagnosis;
    with the value null, the inventory does not have them.

    ``kind`` is single, double, chain (three links or more) or decoy (faults that only look related). ``wait`` are
    seconds after the break in which the effects appear.
    """

    name: str
    kind: str
    faults: tuple[str, ...]
    causes: tuple[Cause, ...]
    breaks: tuple[Callable[[Any], AbstractContextManager[None]], ...] = ()
    wait: float = 6.0
    variables: dict[str, Any] = field(default_factory=dict)

    @contextlib.contextmanager
    def broken(self, lab) -> Iterator[None]:
        """Break the stack until the end of the context."""
        with contextlib.ExitStack() as stack:
            for name in self.faults:
                stack.enter_context(lab.fault(name))
            for each in self.breaks:
                stack.enter_context(each(lab))
            time.sleep(self.wait)
            yield

    def inventory(self, lab, folder: Path) -> Path:
        """Return the inventory of a stack without the variables that are null, as a file in ``folder``."""
        removed = tuple("%s:" % name for name, value in self.variables.items() if value is None)
        kept = [
            line
            for line in lab.inventory.read_text().splitlines()
            if not removed or not line.strip().startswith(removed)
        ]
        path = folder / "inventory.yml"
        path.write_text("\n".join(kept) + "\n")
        return path

    @property
    def all_projects(self) -> bool:
        """Whether all projects of the host are diagnosed."""
        return self.variables.get("tracktion_compose_project", "") is None

    def extra(self) -> dict[str, Any]:
        """Return the extra variables of the diagnosis."""
        return {name: value for name, value in self.variables.items() if value is not None}


def stopped(service: str) -> Callable[[Any], AbstractContextManager[None]]:
    def broken(lab):
        return lab.stopped(service)

    return broken


def paused(service: str) -> Callable[[Any], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def broken(lab):
        container = lab.container(service)
        lab.docker("pause", container)
        try:
            yield
        finally:
            lab.docker("unpause", container)
            lab.wait_healthy()

    return broken


@contextlib.contextmanager
def messages(lab):
    """Two hundred requests for analysis are published."""
    queue_faults.publish(
        lab, "audio.analysis.requests", [json.dumps({"path": "/x/%d" % n}).encode() for n in range(200)]
    )
    try:
        yield
    finally:
        lab.wait_healthy()
        wait_until(lambda: queue_faults.depth(lab, "audio.analysis.requests") == 0, "the queue to be empty", 60)


@contextlib.contextmanager
def greedy_consumer(lab):
    """The consumer of lab.work is killed at its memory limit, restarted, and killed again; messages wait."""
    with container_faults.beside(lab) as others, queue_faults.queue(lab, "lab.work", messages=200):
        limit = ("--memory", "32m", "--memory-swap", "32m", "--restart", "unless-stopped")
        name = others.run(
            "greedy", "python3", "-c", "bytearray(200 << 20)", options=(*limit, *container_faults.HEALTHY)
        )
        wait_until(lambda: inspect(name)["RestartCount"] >= 4, "four restarts", 40)
        yield


@contextlib.contextmanager
def locked_tracks(lab):
    """An idle transaction has locked the table of the tracks; ten requests wait for it and use up the pool."""
    root = lab.postgres(application_name="lab migration")
    root.cursor().execute("lock table tracks in access exclusive mode")
    import threading

    def ask() -> None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(lab.url("tracklist", "/match?title=Title"), timeout=60).read()

    threads = [threading.Thread(target=ask, daemon=True) for _number in range(10)]
    for thread in threads:
        thread.start()
    database_faults.wait_for_sessions(lab, "application_name = 'tracklist_service' and wait_event_type = 'Lock'", 8)
    try:
        yield
    finally:
        root.close()
        for thread in threads:
            thread.join(20)
        lab.wait_healthy()


@contextlib.contextmanager
def all_connections_wait(lab):
    """One idle transaction blocks sessions that take all connections; the services cannot open new ones."""
    root = lab.postgres(application_name="lab blocker")
    root.cursor().execute("update artists set name = name where id = 1")
    waiting = []
    threads = []
    import psycopg2

    with contextlib.suppress(psycopg2.OperationalError):
        for _number in range(100):
            connection = lab.postgres(application_name="lab waiter")
            connection.autocommit = True
            waiting.append(connection)
            threads.append(database_faults.run_and_wait(connection, "update artists set name = name where id = 1"))
    # The connections that the services have are ended, as a restart or a pool's time limit would do.
    lab.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%_service'")
    with contextlib.suppress(psycopg2.OperationalError):
        for _number in range(20):
            connection = lab.postgres(application_name="lab waiter")
            connection.autocommit = True
            waiting.append(connection)
            threads.append(database_faults.run_and_wait(connection, "update artists set name = name where id = 1"))
    try:
        yield
    finally:
        root.close()
        for connection in waiting:
            with contextlib.suppress(psycopg2.Error):
                connection.cancel()
        for thread, connection in zip(threads, waiting, strict=True):
            thread.join(10)
            connection.close()
        database_faults.forget_statements(lab, "update artists set name = name%")
        lab.wait_healthy()


@contextlib.contextmanager
def dead_rows_held(lab):
    """An old snapshot keeps VACUUM from removing the dead rows of a table."""
    lab.psql("drop table if exists lab_held")
    lab.psql("create table lab_held as select n, 'x' as text from generate_series(1, 40000) n")
    lab.psql("grant select on lab_held to public")
    holder = lab.postgres(application_name="lab report")
    holder.set_session(isolation_level="REPEATABLE READ")
    holder.cursor().execute("select count(*) from lab_held")
    try:
        lab.psql("update lab_held set text = 'y'")
        lab.psql("vacuum lab_held")
        wait_until(
            lambda: int(lab.psql("select n_dead_tup from pg_stat_user_tables where relname = 'lab_held'")) > 10000,
            "the statistics of the dead rows", 20,
        )  # fmt: skip
        yield
    finally:
        holder.close()
        lab.psql("drop table lab_held")


@contextlib.contextmanager
def starved_api(lab):
    """The tracklist service has a hundredth of a core, which a loop in it uses up."""
    container = lab.container("tracklist_service")
    lab.docker("update", "--cpu-period", "100000", "--cpu-quota", "2000", container)
    lab.docker("exec", "--detach", container, "timeout", "120", "sh", "-c", "while :; do :; done")
    try:
        yield
    finally:
        lab.docker("update", "--cpu-quota", "-1", container)
        lab.docker("restart", "--time", "1", container)
        lab.wait_healthy()


@contextlib.contextmanager
def full_scratch(lab):
    """A service writes to a full file system in memory, and logs the error."""
    script = (
        "import time\n"
        "file = open('/scratch/fill', 'wb', 0)\n"
        "while True:\n"
        "    try:\n"
        "        while True: file.write(b'x' * 65536)\n"
        "    except OSError as error: print('ERROR cannot write:', error, flush=True)\n"
        "    time.sleep(1)\n"
    )
    with container_faults.beside(lab) as others:
        options = (*container_faults.SOUND, *container_faults.HEALTHY, "--tmpfs", "/scratch:size=8m")
        others.run("writer", "python3", "-c", script, options=options)
        yield


@contextlib.contextmanager
def watcher_without_watches(lab):
    """Another process holds all inotify watches of the user, and the watcher was restarted since."""
    with inotify_faults.hog(lab, "watches"):
        lab.docker("restart", "--time", "1", lab.container("file_watcher"))
        yield
    lab.docker("restart", "--time", "1", lab.container("file_watcher"))
    lab.wait_healthy()


@contextlib.contextmanager
def taken_api(lab):
    """The tracklist service was stopped, and another process holds its port: it cannot start."""
    import socket

    with lab.stopped("tracklist_service"), socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", lab.ports["tracklist"]))
        holder.listen(1)
        with contextlib.suppress(Exception):
            lab.docker("start", lab.container("tracklist_service"))
        yield


@contextlib.contextmanager
def full_cache_at_work(lab):
    """Redis is full and evicts nothing, while the analysis service works: it cannot keep its results."""
    with lab.fault("memory-full"):
        bodies = [json.dumps({"path": "/y/%d" % number}).encode() for number in range(30)]
        queue_faults.publish(lab, "audio.analysis.requests", bodies)
        time.sleep(15)
        yield
    wait_until(lambda: queue_faults.depth(lab, "audio.analysis.requests") == 0, "the queue to be empty", 90)


API = Cause(("containers.stopped",), "tracklist_service", DOWN)
ANALYSIS = Cause(("containers.stopped",), "analysis_service", DOWN)
POSTGRES = Cause(("containers.stopped",), "postgres", DOWN)
REDIS = Cause(("containers.stopped",), "redis", DOWN)
RABBITMQ = Cause(("containers.stopped",), "rabbitmq", DOWN)
WATCHER = Cause(("containers.stopped",), "file_watcher", DOWN)
BLOCKER = Cause(
    ("database.idle_in_transaction", "database.long_transaction", "database.blocked_sessions"), "", (*LOCKS, *DOWN)
)
FULL_CACHE = Cause(
    ("cache.memory_used", "cache.eviction_impossible"),
    "",
    ("cache.", "logs.", "service_health.", "containers.unhealthy", "message_queue.redelivery_loop"),
)
MEMORY_ALARM = Cause(("message_queue.memory_alarm",), "", ("message_queue.", "logs."))
DEAD = Cause(("message_queue.dead_letters",), "")
LATE = {
    "database_idle_in_transaction_warning": 2,
    "database_long_transaction_warning": 2,
    "database_blocked_seconds_warning": 2,
}
WORK = {"message_queue_consumers": {"lab.work": ["greedy"], "audio.analysis.requests": ["analysis_service"]}}

SCENARIOS = (
    Scenario("api stopped", "single", ("api-stopped",), (API,)),
    Scenario(
        "api paused", "single", ("api-paused",), (Cause(("containers.paused",), "tracklist_service", DOWN),), wait=25
    ),
    Scenario("watcher stopped", "single", ("stopped-service",), (WATCHER,)),
    Scenario("database stopped", "chain", (), (POSTGRES,), (stopped("postgres"),), wait=25),
    Scenario("cache stopped", "chain", (), (REDIS,), (stopped("redis"),), wait=25),
    Scenario("broker stopped", "chain", (), (RABBITMQ,), (stopped("rabbitmq"),), wait=25),
    Scenario(
        "broker paused", "chain", (), (Cause(("containers.paused",), "rabbitmq", DOWN),), (paused("rabbitmq"),), wait=25
    ),
    Scenario("cache paused", "chain", (), (Cause(("containers.paused",), "redis", DOWN),), (paused("redis"),), wait=25),
    Scenario("consumer stopped", "chain", (), (ANALYSIS,), (messages, stopped("analysis_service")), wait=15),
    Scenario(
        "consumer killed for lack of memory",
        "chain",
        (),
        (
            Cause(
                ("containers.oom_killed",),
                "greedy",
                (*DOWN, "containers.crash_loop", "containers.stopped", "host_resources.oom_kill"),
            ),
        ),
        (greedy_consumer,),
        variables=WORK,
    ),
    Scenario("crash loop", "single", ("crash-loop",), (Cause(("containers.crash_loop",), "crashing", DOWN),)),
    Scenario("row lock", "single", ("blocked-transaction",), (BLOCKER,), variables=LATE),
    Scenario(
        "table lock fills the pool of the api", "chain", (), (BLOCKER,), (locked_tracks,), wait=10, variables=LATE
    ),
    Scenario(
        "row lock uses up all connections", "chain", (), (BLOCKER,), (all_connections_wait,), wait=10, variables=LATE
    ),
    Scenario(
        "connections leaked", "single", ("connections-exhausted",), (Cause(("database.connections_used",), "", DOWN),)
    ),
    Scenario(
        "old snapshot holds dead rows",
        "chain",
        (),
        (
            Cause(
                ("database.idle_in_transaction", "database.long_transaction", "database.xmin_held"),
                "",
                (
                    "database.xmin_held",
                    "database.vacuum_held",
                    "database.long_transaction",
                    "database.idle_in_transaction",
                ),
            ),
        ),
        (dead_rows_held,),
        variables={**LATE, "database_dead_rows_floor": 1000, "database_xmin_age_warning": 1},
    ),
    Scenario(
        "forgotten slot",
        "single",
        ("forgotten-slot",),
        (Cause(("database.inactive_slot",), "", ("database.slot_wal_retained", "database.xmin_held")),),
    ),
    Scenario("cache full", "single", ("memory-full",), (FULL_CACHE,)),
    Scenario("cache full, consumer at work", "chain", (), (FULL_CACHE,), (full_cache_at_work,)),
    Scenario("memory alarm blocks a publisher", "single", ("blocked-publisher",), (MEMORY_ALARM,)),
    Scenario(
        "disk alarm",
        "single",
        ("disk-alarm",),
        (Cause(("message_queue.disk_alarm",), "", ("message_queue.", "logs.")),),
    ),
    Scenario(
        "name resolution broken",
        "single",
        ("dns-broken",),
        (Cause(("network.path_dns", "network.container_resolver_broken"), "", DOWN),),
        wait=25,
    ),
    Scenario("packets dropped", "single", ("packets-dropped",), (Cause(("network.path_timeout",), "", DOWN),)),
    Scenario(
        "network cut", "single", ("network-cut",), (Cause(("network.not_on_common_network",), "", DOWN),), wait=15
    ),
    Scenario("port taken", "chain", (), (Cause(("containers.port_taken",), "tracklist_service", DOWN),), (taken_api,)),
    Scenario(
        "watches exhausted",
        "chain",
        (),
        (
            Cause(
                ("file_watching.watches_used",),
                "",
                ("file_watching.", "containers.", "logs.", "service_health.", "network.", "message_queue."),
            ),
        ),
        (watcher_without_watches,),
        wait=20,
    ),
    Scenario(
        "cpu limit of the api",
        "single",
        (),
        (Cause(("containers.cpu_throttled",), "tracklist_service", DOWN),),
        (starved_api,),
        wait=10,
    ),
    Scenario(
        "scratch file system full",
        "single",
        (),
        (
            Cause(
                ("containers.filesystem_full", "host_resources.file_system_full"),
                "writer",
                ("logs.", "containers.filesystem_full"),
            ),
        ),
        (full_scratch,),
    ),
    Scenario(
        "unreadable audio file",
        "single",
        ("unreadable-file",),
        (Cause(("audio_processing.library_unreadable",), "", ("audio_processing.", "logs.")),),
    ),
    Scenario(
        "api stopped and row lock", "double", ("api-stopped", "blocked-transaction"), (API, BLOCKER), variables=LATE
    ),
    Scenario("cache full and watcher stopped", "double", ("memory-full", "stopped-service"), (FULL_CACHE, WATCHER)),
    Scenario(
        "memory alarm and slot",
        "double",
        ("blocked-publisher", "forgotten-slot"),
        (MEMORY_ALARM, Cause(("database.inactive_slot",), "", ("database.slot_wal_retained", "database.xmin_held"))),
    ),
    Scenario("api stopped, old dead letters", "decoy", ("api-stopped", "dead-letters"), (API, DEAD)),
    Scenario(
        "watcher stopped, wrong password at the cache",
        "decoy",
        ("stopped-service", "wrong-password"),
        (WATCHER, Cause(("cache.error_replies",))),
    ),
    Scenario(
        "api slow, another service at its memory limit",
        "decoy",
        ("api-slow", "memory-near-limit"),
        (
            Cause(("service_health.slow",), "tracklist_service", ("logs.",)),
            Cause(("containers.memory_near_limit",), "full"),
        ),
    ),
    Scenario(
        "api slow, another service throttled",
        "decoy",
        ("api-slow", "throttled"),
        (
            Cause(("service_health.slow",), "tracklist_service", ("logs.",)),
            Cause(("containers.cpu_throttled",), "slow"),
        ),
    ),
    Scenario(
        "watcher stopped, queue of nobody",
        "decoy",
        ("stopped-service", "orphaned-queue"),
        (WATCHER, Cause(("message_queue.no_consumer", "message_queue.backlog"), "", ("message_queue.",))),
    ),
    Scenario(
        "clients of the cache leak, row lock",
        "decoy",
        ("connections-leaking", "blocked-transaction"),
        (BLOCKER, Cause(("cache.clients_used",))),
        variables=LATE,
    ),
)


def right(scenario: Scenario, incidents: list[dict], findings: list[dict]) -> bool:
    """Return whether the first incidents have the expected causes, in any order."""
    by_fingerprint = {finding["fingerprint"]: finding for finding in findings}
    first = [by_fingerprint[incident["cause"]] for incident in incidents[: len(scenario.causes)]]
    return len(first) == len(scenario.causes) and _covers(scenario, first)


def right_by_severity(scenario: Scenario, findings: list[dict]) -> bool:
    """Return the same for the first findings of the list that is sorted by severity only."""
    first = [finding for finding in findings if finding["status"] != "unknown"][: len(scenario.causes)]
    return len(first) == len(scenario.causes) and _covers(scenario, first)


def invented(scenario: Scenario, incidents: list[dict], findings: list[dict]) -> list[str]:
    """Return the links that the scenario does not allow, as text."""
    by_fingerprint = {finding["fingerprint"]: finding for finding in findings}
    wrong = []
    for incident in incidents:
        root = by_fingerprint[incident["cause"]]
        allowed = [cause for cause in scenario.causes if _is(cause, root)]
        follows = [each for cause in (allowed or scenario.causes) for each in cause.follows]
        for effect in incident["effects"]:
            finding = by_fingerprint[effect["finding"]]
            if not any(_matches(each, finding["id"]) for each in follows):
                wrong.append("%s [%s] -> %s [%s]" % (root["id"], root["object"], finding["id"], finding["object"]))
    return wrong


def _covers(scenario: Scenario, first: list[dict]) -> bool:
    return all(any(_is(cause, finding) for finding in first) for cause in scenario.causes)


def _is(cause: Cause, finding: dict) -> bool:
    names = [finding["object"] or "", *(name for names in finding["about"].values() for name in names)]
    return finding["id"] in cause.roots and any(cause.object in name for name in names)


def _matches(pattern: str, check: str) -> bool:
    return check.startswith(pattern) if pattern[-1] in "._" else check == pattern
