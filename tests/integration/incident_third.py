# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The third set of scenarios: faults at night, and two projects on one host with services of the same names.

The causes were written down before any of them was run, and are not changed since.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request

from tests.integration import incident_breaks as breaks
from tests.integration.incident_links import changed_passwords
from tests.integration.incident_scenarios import DOWN, LATE, LOCKS, WATCHER, Cause, Scenario, stopped
from tests.integration.incident_second import DISKS, FULL
from tests.lab.faults import containers as container_faults
from tests.lab.faults import database as database_faults
from tests.lab.faults import message_queue as queue_faults
from tests.lab.faults.network import new_connections, pid, rule
from tests.lab.images import ensure_image
from tests.lab.shell import attempt, wait_until
from tests.lab.throwaway import inspect, project, wait_for

REQUESTS = "audio.analysis.requests"
# A reserved address, at which no server is.
NOWHERE = "192.0.2.1"


def _publish_paths(lab, number: int) -> None:
    bodies = [json.dumps({"path": "/n/%d" % each}).encode() for each in range(number)]
    queue_faults.publish(lab, REQUESTS, bodies)


def _wait_until_done(lab) -> None:
    wait_until(lambda: queue_faults.depth(lab, REQUESTS) == 0, "the queue to be empty", 90)


@contextlib.contextmanager
def updated_database_image(lab):
    """An update of the image has started a newer major version of PostgreSQL on the data of the old one."""
    override = lab.directory / "override.yaml"
    override.write_text(json.dumps({"services": {"postgres": {"image": ensure_image("trixie")}}}))
    try:
        lab.compose("--file", str(override), "up", "--detach", "--no-deps", "postgres")
        container = lab.container("postgres")
        wait_until(lambda: inspect(container)["RestartCount"] >= 4, "four restarts", 60)
        yield
    finally:
        override.unlink()
        lab.compose("up", "--detach", "--no-deps", "postgres")
        lab.wait_healthy(timeout=120)


@contextlib.contextmanager
def cache_became_a_replica(lab):
    """A failover has made Redis a replica of a primary that does not exist; it rejects the results of the analysis."""
    client = lab.redis()
    client.execute_command("REPLICAOF", NOWHERE, "6379")
    try:
        _publish_paths(lab, 30)
        time.sleep(10)
        yield
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")
    _wait_until_done(lab)


@contextlib.contextmanager
def endless_script(lab):
    """A script that does not end keeps Redis busy."""
    client = lab.redis(socket_timeout=600)

    def run() -> None:
        import redis

        with contextlib.suppress(redis.exceptions.RedisError):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        # Redis says that it is busy after five seconds.
        time.sleep(7)
        yield
    finally:
        lab.exec("redis", "redis-cli", "script", "kill")
        thread.join(20)
        client.slowlog_reset()
        lab.wait_healthy(timeout=90)


@contextlib.contextmanager
def migration_behind_the_backup(lab):
    """A hanging dump holds a table, a migration waits for it, and requests of the API queue behind the migration."""
    dump = lab.postgres(application_name="pg_dump")
    dump.cursor().execute("lock table tracks in access share mode")
    migration = lab.postgres(application_name="lab migration")
    migration.autocommit = True
    altering = database_faults.run_and_wait(migration, "begin; lock table tracks in access exclusive mode; commit")
    waiting = "application_name = 'lab migration' and wait_event_type = 'Lock'"

    def ask() -> None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(lab.url("tracklist", "/match?title=Title"), timeout=60).read()

    threads = [threading.Thread(target=ask, daemon=True) for _number in range(10)]
    try:
        database_faults.wait_for_sessions(lab, waiting, 1)
        for thread in threads:
            thread.start()
        yield
    finally:
        dump.close()
        altering.join(20)
        migration.close()
        for thread in threads:
            if thread.ident:
                thread.join(20)
        lab.wait_healthy(timeout=90)


@contextlib.contextmanager
def slot_fills_the_disk(lab):
    """A replication slot without a consumer keeps WAL until the disk of PostgreSQL is nearly full."""
    with breaks.small_disk(lab, "postgres", "/var/lib/postgresql", 256):
        lab.psql("select pg_create_physical_replication_slot('lab_standby', true)")

        def used() -> int:
            return int(lab.exec("postgres", "df", "--output=pcent", "/var/lib/postgresql").split()[-1].rstrip("%"))

        for _round in range(12):
            if used() >= 90:
                break
            database_faults.write_wal(lab, 16)
        yield
        lab.psql("select pg_drop_replication_slot('lab_standby')")


@contextlib.contextmanager
def poison_message(lab):
    """The consumer fails on a message each time that the broker delivers it again."""
    queue_faults.publish(lab, REQUESTS, [json.dumps({"path": 12}).encode()])
    _publish_paths(lab, 20)
    try:
        time.sleep(15)
        yield
    finally:
        with lab.stopped("analysis_service"), lab.amqp() as connection:
            connection.channel().queue_purge(REQUESTS)


@contextlib.contextmanager
def queue_declared_otherwise(lab):
    """The queue of the requests was created again with other arguments; its consumer fails to declare it."""
    lost = 'rabbit_networking:close_all_user_connections(<<"analysis_service">>, <<"maintenance">>)'
    with lab.amqp() as connection:
        connection.channel().queue_delete(REQUESTS)
        connection.channel().queue_declare(REQUESTS, durable=True, arguments={"x-message-ttl": 3600000})
    try:
        queue_faults.evaluate(lab, lost)
        _publish_paths(lab, 200)
        yield
    finally:
        with lab.amqp() as connection:
            connection.channel().queue_delete(REQUESTS)
        lab.wait_healthy(timeout=90)
    _wait_until_done(lab)


@contextlib.contextmanager
def cache_of_another_project_stopped(lab):
    """Another project on the host has a stopped service with the name of the cache of the stack."""
    with project(lab.project, f"{lab.project}x") as others:
        name = others.run("redis", "sh", "-c", "exit 4", options=("--restart", "no", *container_faults.HEALTHY))
        wait_for(name, "stopped", lambda state: state["Status"] == "exited")
        yield


@contextlib.contextmanager
def packets_of_the_cache_dropped(lab):
    """A rule drops packets to the Redis of the stack."""
    with rule(*new_connections(6379), "--jump", "DROP", inside=pid(lab, "redis")):
        yield


@contextlib.contextmanager
def consumer_of_another_project_stopped(lab):
    """Another project on the host has a stopped service with the name of the consumer of the stack."""
    with project(lab.project, f"{lab.project}x") as others:
        options = ("--restart", "no", *container_faults.HEALTHY)
        name = others.run("analysis_service", "sh", "-c", "exit 4", options=options)
        wait_for(name, "stopped", lambda state: state["Status"] == "exited")
        yield


@contextlib.contextmanager
def cache_of_another_project_full(lab):
    """Another project has a full cache of its own, and its service logs that; names are those of the stack."""
    network = f"{lab.project}x_default"
    lab.docker("network", "create", "--label", f"com.docker.compose.project={lab.project}x", network)
    script = (
        "until redis-cli -h redis ping >/dev/null; do sleep 0.2; done; n=0\n"
        "while :; do n=$((n + 1)); text=$(head -c 20000 /dev/zero | tr '\\0' x)\n"
        "r=$(redis-cli -h redis set analysis:$n $text 2>&1)\n"
        'case "$r" in OK) ;; *) echo "ERROR cannot store the result: $r"; sleep 1;; esac; done'
    )
    try:
        with project(lab.project, f"{lab.project}x") as others:
            options = (*container_faults.HEALTHY, "--restart", "unless-stopped", "--network", network)
            server = ("redis-server", "--protected-mode", "no", "--bind", "*", "--save", "", "--maxmemory", "3mb")
            others.run("redis", *server, options=(*options, "--memory", "64m", "--network-alias", "redis"))
            name = others.run("analysis_service", "sh", "-c", script, options=(*options, "--memory", "64m"))
            wait_until(lambda: "OOM" in lab.docker("logs", name), "a rejected write", 40)
            yield
    finally:
        attempt("docker", "network", "rm", network)


@contextlib.contextmanager
def full_cache(lab):
    with lab.fault("memory-full"):
        yield


# Other tests keep the machine busy.
CALM = {
    "service_health_slow_warning": 20,
    "service_health_slow_critical": 60,
    "containers_timeout": 20,
    "containers_deadline": 45,
    "message_queue_timeout": 10,
    "message_queue_deadline": 40,
}
ALL_PROJECTS = {**CALM, "tracktion_compose_project": None}
OWN_LOGS = ("logs.", "containers.")
UPDATED = Cause(("containers.crash_loop",), "postgres", (*DOWN, "message_queue.redelivery_loop"))
REPLICA = Cause(
    ("cache.replication_link_down",),
    "",
    ("cache.", "logs.", "message_queue.redelivery_loop", "service_health.", "containers.unhealthy"),
)

THIRD = (
    Scenario("database image updated", "chain", (), (UPDATED,), (updated_database_image,), wait=25, variables=CALM),
    Scenario("cache became a replica", "chain", (), (REPLICA,), (cache_became_a_replica,), wait=4, variables=CALM),
    Scenario(
        "endless script in the cache",
        "chain",
        (),
        (Cause(("cache.not_serving", "cache.command_busy"), "", ("cache.", *DOWN)),),
        (endless_script,),
        wait=20,
        variables=CALM,
    ),
    Scenario(
        "migration waits behind the backup",
        "chain",
        (),
        (
            Cause(
                ("database.idle_in_transaction", "database.long_transaction", "database.lock_queue"),
                "",
                (*LOCKS, *DOWN),
            ),
        ),
        (migration_behind_the_backup,),
        wait=12,
        variables={**CALM, **LATE},
    ),
    Scenario(
        "slot fills the disk of the database",
        "chain",
        (),
        (
            Cause(
                ("database.inactive_slot",),
                "lab_standby",
                ("database.slot_wal_retained", "database.xmin_held", *FULL, "logs."),
            ),
        ),
        (slot_fills_the_disk,),
        wait=2,
        variables={**CALM, **DISKS, "host_resources_space_warning": 0.85, "database_slot_wal_warning": 50000000},
    ),
    Scenario(
        "message that fails each time",
        "single",
        (),
        (Cause(("message_queue.redelivery_loop",), REQUESTS, ("logs.", "message_queue.", "audio_processing.")),),
        (poison_message,),
        wait=4,
        variables=CALM,
    ),
    Scenario(
        "queue declared otherwise",
        "chain",
        (),
        (
            Cause(
                ("logs.known_signature",),
                "analysis_service",
                (*DOWN, "message_queue.unacked"),
            ),
        ),
        (queue_declared_otherwise,),
        wait=25,
        variables=CALM,
    ),
    Scenario(
        "passwords of the broker changed",
        "chain",
        (),
        (Cause(("message_queue.unreachable",), "", DOWN),),
        (changed_passwords,),
        wait=25,
        variables=CALM,
    ),
    Scenario(
        "cache became a replica, watcher stopped",
        "double",
        (),
        (REPLICA, WATCHER),
        (cache_became_a_replica, stopped("file_watcher")),
        wait=4,
        variables=CALM,
    ),
    Scenario(
        "packets to the cache dropped, cache of another project stopped",
        "decoy",
        (),
        (
            Cause(("network.path_timeout",), "redis", (*DOWN, "cache.")),
            Cause(("containers.stopped",), "x-redis"),
        ),
        (packets_of_the_cache_dropped, cache_of_another_project_stopped),
        wait=25,
        variables=ALL_PROJECTS,
    ),
    Scenario(
        "consumer without names, consumer of another project stopped",
        "decoy",
        (),
        (
            Cause(
                ("network.path_dns", "network.container_resolver_broken"),
                "analysis_service",
                (*DOWN, "network.container_resolver_broken"),
            ),
            Cause(("containers.stopped",), "x-analysis_service"),
        ),
        (breaks.consumer_without_names, consumer_of_another_project_stopped),
        wait=30,
        variables={**ALL_PROJECTS, "message_queue_consumers": {REQUESTS: ["analysis_service"]}},
    ),
    Scenario(
        "cache full, a service of another project fails at its own",
        "decoy",
        (),
        (
            Cause(("cache.memory_used", "cache.eviction_impossible"), "", ("cache.",)),
            Cause(("logs.known_signature",), "x-analysis_service", ("logs.",)),
        ),
        (full_cache, cache_of_another_project_full),
        wait=4,
        variables={**ALL_PROJECTS, "tracktion_areas": ["cache", "logs"]},
    ),
)
