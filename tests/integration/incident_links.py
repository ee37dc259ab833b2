# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""More real faults of the stack, for the links that no scenario causes. They are recorded, and not counted.

Each diagnosis covers several faults of the areas that it names; thresholds are low where a test cannot wait.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.integration import incident_breaks as breaks
from tests.integration.incident_scenarios import (
    LATE,
    Scenario,
    all_connections_wait,
    dead_rows_held,
    full_scratch,
    locked_tracks,
    starved_api,
)
from tests.integration.incident_second import DISKS
from tests.lab.faults import containers as container_faults
from tests.lab.faults import database as database_faults
from tests.lab.faults import message_queue as queue_faults
from tests.lab.shell import attempt, run, succeeds, wait_until
from tests.lab.throwaway import healthcheck, inspect, project, wait_for


@contextlib.contextmanager
def lock_queue(lab):
    """A DDL statement waits behind an idle session, and readers queue behind it; an update waits for the session."""
    reader = lab.postgres(application_name="lab reader")
    reader.cursor().execute("update artists set name = name where id = 3")
    direct = lab.postgres(application_name="lab queue")
    direct.autocommit = True
    updating = database_faults.run_and_wait(direct, "update artists set name = name where id = 3")
    waiting = [lab.postgres(application_name="lab queue") for _number in range(4)]
    threads = []
    for number, connection in enumerate(waiting):
        connection.autocommit = True
        statement = "select count(*) from artists" if number else "lock table artists in access exclusive mode"
        threads.append(
            database_faults.run_and_wait(connection, "begin; %s; commit" % statement if not number else statement)
        )
        time.sleep(0.5)
    database_faults.wait_for_sessions(lab, "application_name = 'lab queue' and wait_event_type = 'Lock'", 5)
    try:
        yield
    finally:
        reader.close()
        updating.join(10)
        direct.close()
        for thread, connection in zip(threads, waiting, strict=True):
            connection.cancel()
            thread.join(10)
            connection.close()


@contextlib.contextmanager
def consumer_waits(lab):
    """An idle transaction has locked the tracks, and the consumer of new files waits for it with its messages."""
    root = lab.postgres(application_name="lab migration")
    root.cursor().execute("lock table tracks in access exclusive mode")
    bodies = [json.dumps({"path": "/z/%d" % number}).encode() for number in range(60)]
    queue_faults.publish(lab, "file.events", bodies)
    database_faults.wait_for_sessions(lab, "application_name = 'tracklist_service' and wait_event_type = 'Lock'", 1)
    try:
        yield
    finally:
        root.close()
        wait_until(lambda: queue_faults.depth(lab, "file.events") == 0, "the queue to be empty", 60)
        lab.psql("delete from tracks where path like '/z/%'")
        lab.wait_healthy()


@contextlib.contextmanager
def looping_with_errors(lab):
    """A service logs an error and ends, again and again."""
    with container_faults.beside(lab) as others:
        script = 'for n in 1 2 3 4 5 6; do echo "ERROR cannot load plugin $n"; done; exit 3'
        name = others.run("noisy", "sh", "-c", script, options=(*container_faults.SOUND, *container_faults.HEALTHY))
        wait_until(lambda: inspect(name)["RestartCount"] >= 4, "four restarts", 40)
        yield


@contextlib.contextmanager
def killed_service(lab):
    """The kernel killed the process of a service that has a health endpoint and a queue; it was not restarted."""
    with container_faults.beside(lab) as others:
        limit = ("--memory", "32m", "--memory-swap", "32m")

        def kill():
            options = (*limit, *container_faults.HEALTHY)
            name = others.run("greedy", "python3", "-c", "bytearray(200 << 20)", options=options)
            wait_for(name, "killed", lambda state: state["Status"] == "exited")
            return name

        container_faults.until_noted(lab, kill)
        yield


@contextlib.contextmanager
def busy_host(lab):
    """Six loops use the processors of the host."""
    loops = [subprocess.Popen(["timeout", "60", "sh", "-c", "while :; do :; done"]) for _number in range(6)]
    try:
        time.sleep(10)
        yield
    finally:
        for loop in loops:
            loop.terminate()
            loop.wait()


@contextlib.contextmanager
def check_behind_lock(lab):
    """The health check of a worker reads a table that another session has locked."""
    query = "psql --host=postgres --username=tracktion_user --dbname='%s' --command='select count(*) from tracks'"
    database = "dbname=tracktion application_name=indexer"
    with project(lab.project, lab.project) as others:
        options = (*container_faults.SOUND, *healthcheck(query % database), "--network", lab.network)
        password = ("--env", "PGPASSWORD=%s" % lab.passwords["application"])
        name = others.run("indexer", options=(*options, *password))
        wait_for(name, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy", 60)
        yield


@contextlib.contextmanager
def hung_service(lab):
    """A service accepts connections and answers none of them, also not those of its health check."""
    script = "import socket, time; server = socket.create_server(('', 8000)); time.sleep(1e6)"
    with project(lab.project, lab.project) as others:
        check = healthcheck("curl --fail --silent --max-time 1 http://127.0.0.1:8000/")
        published = ("--publish", "127.0.0.1:%d:8000" % HUNG_PORT)
        name = others.run("hung", "python3", "-c", script, options=(*container_faults.SOUND, *check, *published))
        wait_for(name, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy", 60)
        yield


@contextlib.contextmanager
def throttled_check(lab):
    """A service computes at its CPU limit, and its health check does not end in time."""
    with project(lab.project, lab.project) as others:
        options = (*container_faults.SOUND, *healthcheck("python3 -c 'import json'"), "--cpus", "0.02")
        name = others.run("encoder", "sh", "-c", "while :; do :; done", options=options)
        wait_for(name, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy", 60)
        yield


@contextlib.contextmanager
def check_without_names(lab):
    """The health check of a worker needs Redis, whose name does not resolve in it."""
    with project(lab.project, lab.project) as others:
        check = healthcheck("getent hosts redis")
        name = others.run("indexer", options=(*container_faults.SOUND, *check, "--network", lab.network))
        file = Path("/proc/%d/root/etc/resolv.conf" % inspect(name)["State"]["Pid"])
        file.write_text("nameserver 127.0.0.9\n", encoding="utf-8")
        wait_for(name, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy", 60)
        yield


@contextlib.contextmanager
def api_leaks_connections(lab):
    """The API keeps all connections of the database idle, and gets no further one for its requests."""
    before = lab.psql("select pid from pg_stat_activity where application_name like '%_service'").split()
    with breaks.connections_held(lab, "tracklist_service", "pid = any ('{%s}')" % ",".join(before)):
        yield


@contextlib.contextmanager
def changed_passwords(lab):
    """The passwords of the broker were changed; its clients have lost their connections, and still use the old ones."""
    users = ("tracktion", "analysis_service", "tracklist_service", "file_watcher")
    try:
        for user in users:
            lab.exec("rabbitmq", "rabbitmqctl", "change_password", user, "changed")
            closing = 'rabbit_networking:close_all_user_connections(<<"%s">>, <<"password changed">>)'
            queue_faults.evaluate(lab, closing % user)
        time.sleep(5)
        yield
    finally:
        for user in users:
            lab.exec("rabbitmq", "rabbitmqctl", "change_password", user, lab.passwords["rabbitmq"])
        lab.wait_healthy(timeout=120)


@contextlib.contextmanager
def consumer_paused_after_work(lab):
    """The analysis service has completed files, and is paused since."""
    with breaks.work_done(lab):
        container = lab.container("analysis_service")
        lab.docker("pause", container)
        try:
            yield
        finally:
            lab.docker("unpause", container)
            lab.wait_healthy(timeout=120)


@contextlib.contextmanager
def sessions_rejected_by_full_disk(lab):
    """The disk of PostgreSQL is full, and a new session cannot write the file that caches the system catalog."""
    import psycopg2

    with breaks.small_disk(lab, "postgres", "/var/lib/postgresql", 256):
        # The server removes these files itself after a change of the catalog, and each session writes missing ones.
        lab.exec("postgres", "sh", "-c", "rm -f /var/lib/postgresql/data/base/*/pg_internal.init")
        breaks.fill(lab, "postgres", "/var/lib/postgresql")

        def rejected() -> bool:
            try:
                lab.postgres("operator").close()
            except psycopg2.OperationalError as error:
                return "could not write init file" in str(error)
            return False

        wait_until(rejected, "rejected sessions", 20)
        yield


@contextlib.contextmanager
def second_engine(lab):
    """An engine in a network namespace, with a link to another one; yields its command and both namespaces."""
    near, far = "%s-engine" % lab.project, "%s-outside" % lab.project
    folder = Path("/var/tmp", near)
    (folder / "root").mkdir(parents=True)
    (folder / "daemon.json").write_text("{}")
    try:
        for name in (near, far):
            run("ip", "netns", "add", name)
            run("ip", "-netns", name, "link", "set", "lo", "up")
        run("ip", "link", "add", "lab0", "netns", near, "type", "veth", "peer", "name", "lab1", "netns", far)
        for name, device, address in ((near, "lab0", "198.51.100.1/30"), (far, "lab1", "%s/30" % OUTSIDE)):
            run("ip", "-netns", name, "address", "add", address, "dev", device)
            run("ip", "-netns", name, "link", "set", device, "up")
        run("ip", "-netns", near, "route", "add", "default", "via", OUTSIDE)
        # The engine drops what no rule accepts only if it enables forwarding itself.
        run("ip", "netns", "exec", near, "sysctl", "--quiet", "--write", "net.ipv4.ip_forward=0")
        # (`ip netns exec` would hide the cgroups.)
        words = ("nsenter", "--net=/run/netns/%s" % near, "dockerd", "--config-file", folder / "daemon.json")
        roots = ("--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid")
        listening = ("--host", "unix://%s/docker.sock" % folder, "--userland-proxy=false", "--bip", "198.18.0.1/24")
        with (folder / "log").open("wb") as log:
            engine = subprocess.Popen([*map(str, (*words, *roots, *listening))], stdout=log, stderr=log)
        try:
            command = ("docker", "--host", "unix://%s/docker.sock" % folder)
            wait_until(lambda: succeeds(*command, "version"), "the second engine", 30)
            yield command, near, far
        finally:
            engine.terminate()
            engine.wait(60)
    finally:
        for name in (near, far):
            attempt("ip", "netns", "delete", name)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def rules_flushed(lab):
    """The rules of an engine were flushed, and its containers cannot connect to other hosts."""
    # Containers of an image without files run the programs of this machine.
    with second_engine(lab) as (command, near, far):
        empty = attempt("tar", "--create", "--files-from=/dev/null", "--file=/dev/stdout").stdout
        run(*command, "import", "-", "lab:empty", stdin=empty)
        mounts = [word for path in ("usr", "bin", "lib", "lib64") for word in ("--volume", "/%s:/%s:ro" % (path, path))]
        labels = ("--label", "com.docker.compose.project=%s" % lab.project, "--label", "com.docker.compose.service=web")
        run(*command, "run", "--detach", "--name", "web", *labels, *mounts, "lab:empty", "/usr/bin/sleep", "infinity")
        within = ("ip", "netns", "exec", far, sys.executable, "-m", "http.server", "9000")
        server = subprocess.Popen(within, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        asking = (*command, "exec", "web", "curl", "--silent", "--max-time", "2", "http://%s:9000/" % OUTSIDE)
        lab.within = ("nsenter", "--net=/run/netns/%s" % near)
        try:
            wait_until(lambda: succeeds(*asking), "an answer from outside", 20)
            for table in ("filter", "nat"):
                run(*lab.within, "iptables", "--table", table, "--flush")
            wait_until(lambda: not succeeds(*asking), "no answer", 20)
            yield
        finally:
            lab.within = ()
            server.kill()
            server.wait()
            run(*command, "rm", "--force", "web")


OUTSIDE = "198.51.100.2"
HUNG_PORT = 18446
SLOW = {"service_health_slow_warning": 0.02, "service_health_slow_critical": 60}
SUPERUSER = {"database_login_user": "postgres"}
# The window of the logs begins after the work, and the one before has it.
SHORT = {"logs_minutes": 0.35}
SETS = (
    Scenario(
        "links: locks and slots",
        "links",
        ("forgotten-slot",),
        (),
        (dead_rows_held, lock_queue),
        variables={
            **LATE,
            "tracktion_areas": ["database"],
            "database_prepared_transaction_warning": 1,
            "database_dead_rows_floor": 1000,
            "database_xmin_age_warning": 1,
            "database_slot_wal_warning": 1000000,
            "database_long_query_warning": 1,
        },
    ),
    Scenario(
        "links: broker",
        "links",
        ("stuck-consumer", "unbound-exchange"),
        (),
        variables={
            "tracktion_areas": ["message_queue", "logs"],
            "message_queue_stuck_consumer_warning": 1,
            "message_queue_stuck_consumer_critical": 1000,
            "message_queue_unacked_warning": 5,
            "message_queue_unlimited_unacked_warning": 5,
            "message_queue_backlog_warning": 5,
            "message_queue_ack_timeout_warning": 0.000001,
        },
    ),
    Scenario("links: vhost", "links", ("vhost-down",), (), variables={"tracktion_areas": ["message_queue"]}),
    Scenario(
        "links: consumer waits",
        "links",
        (),
        (),
        (consumer_waits,),
        wait=15,
        variables={
            **LATE,
            "tracktion_areas": ["message_queue", "database", "logs"],
            "message_queue_unacked_warning": 5,
            "message_queue_backlog_warning": 5,
            "message_queue_stuck_consumer_warning": 5,
        },
    ),
    Scenario(
        "links: killed and looping",
        "links",
        ("memory-near-limit",),
        (),
        (killed_service, looping_with_errors),
        variables={
            "tracktion_areas": ["containers", "logs", "host_resources"],
            "logs_kernel_log": "/dev/kmsg",
            "host_resources_oom_recent": 1 << 40,
            "logs_errors_warning": 3,
        },
    ),
    Scenario(
        "links: watcher loops",
        "links",
        ("watcher-restarting",),
        (),
        variables={"tracktion_areas": ["file_watching"]},
    ),
    Scenario(
        "links: cpu",
        "links",
        (),
        (),
        (starved_api,),
        wait=10,
        variables={"tracktion_areas": ["containers", "service_health"], **SLOW, "service_health_requests": 5},
    ),
    Scenario(
        "links: clients, files and exchanges",
        "links",
        ("unreadable-file",),
        (),
        (breaks.no_client_left, breaks.empty_file, breaks.published_unbound),
        # The broker counts dropped messages every five seconds.
        wait=12,
        variables={
            "tracktion_areas": ["audio_processing", "cache", "message_queue"],
            "cache_rejected_critical": 1,
            "cache_clients_floor": 10,
            "audio_processing_files": ["/music/incoming/empty-lab.wav"],
            "audio_processing_failed_floor": 1,
            "audio_processing_failed_warning": 0.001,
        },
    ),
    Scenario(
        "links: packets of servers dropped",
        "links",
        (),
        (),
        (breaks.packets_dropped,),
        wait=1,
        variables={"tracktion_areas": ["database", "cache", "network"]},
    ),
    Scenario(
        "links: published ports taken",
        "links",
        (),
        (),
        (breaks.ports_taken,),
        variables={"tracktion_areas": ["database", "cache", "message_queue", "service_health", "network"]},
    ),
    Scenario("links: idle behind an alarm", "links", (), (), (breaks.idle_behind_an_alarm,), wait=14, variables=SHORT),
    Scenario(
        "links: idle behind the watcher", "links", (), (), (breaks.idle_behind_the_watcher,), wait=16, variables=SHORT
    ),
    Scenario(
        "links: killed near the limit",
        "links",
        ("deleted-file-open",),
        (),
        (killed_service, breaks.workers_killed_near_the_limit),
        wait=8,
        variables={
            **DISKS,
            "tracktion_areas": ["containers", "host_resources", "service_health", "logs"],
            "containers_memory_warning": 0.5,
            "host_resources_deleted_bytes": 1000000,
            "host_resources_deleted_ratio": 0.1,
            "service_health_endpoints": [
                {"name": "greedy", "service": "greedy", "url": "http://127.0.0.1:18444/health"}
            ],
        },
    ),
    Scenario("links: lost node", "links", ("lost-node",), (), variables={"tracktion_areas": ["message_queue"]}),
    Scenario(
        "links: dead DNS servers",
        "links",
        (),
        (),
        (breaks.dead_dns_of_a_container, breaks.dead_dns_of_the_host, breaks.looping_publisher),
        wait=1,
        variables={
            "tracktion_areas": ["network", "containers"],
            "network_check_resolver": True,
            "network_paths": [{"from": "web", "to": "files.example.org:443"}],
            "containers_restarts_warning": 1,
        },
    ),
    Scenario(
        "links: full scratch, seen by the host",
        "links",
        (),
        (),
        (full_scratch,),
        variables={**DISKS, "tracktion_areas": ["host_resources", "logs"]},
    ),
    Scenario(
        "links: busy host",
        "links",
        ("api-slow",),
        (),
        (busy_host,),
        variables={
            "tracktion_areas": ["host_resources", "service_health"],
            "host_resources_runnable_warning": 1.2,
            "host_resources_hog_ratio": 0.2,
            "host_resources_cpu_busy": 0.8,
        },
    ),
    Scenario(
        "links: starved host",
        "links",
        (),
        (),
        (busy_host,),
        variables={
            "tracktion_areas": ["host_resources"],
            "host_resources_runnable_warning": 1.2,
            "host_resources_hog_ratio": 0.2,
            "host_resources_cpu_busy": 0.8,
            "tracktion_starved_slowdown": 1.05,
        },
    ),
    Scenario(
        "links: all connections, seen by a superuser",
        "links",
        (),
        (),
        (all_connections_wait,),
        wait=12,
        variables={**LATE, **SUPERUSER},
    ),
    Scenario(
        "links: logins rejected",
        "links",
        (),
        (),
        (breaks.logins_rejected,),
        wait=1,
        variables={
            "tracktion_areas": ["database", "containers", "logs"],
            "database_service_roles": ["lab_locked", "lab_expired"],
        },
    ),
    Scenario(
        "links: limits of a role and of a database",
        "links",
        (),
        (),
        (breaks.own_limits_reached,),
        wait=1,
        variables={"tracktion_areas": ["database", "containers", "logs"]},
    ),
    Scenario(
        "links: all connections, and a service ends",
        "links",
        (),
        (),
        (all_connections_wait, breaks.client_without_connection),
        variables={**SUPERUSER, "tracktion_areas": ["database", "containers"]},
    ),
    Scenario(
        "links: locks behind health checks",
        "links",
        (),
        (),
        (locked_tracks, check_behind_lock),
        variables={**LATE, "tracktion_areas": ["containers", "database", "logs"]},
    ),
    Scenario(
        "links: containers unhealthy",
        "links",
        (),
        (),
        (hung_service, throttled_check, check_without_names),
        wait=1,
        variables={
            "tracktion_areas": ["containers", "network", "service_health"],
            "network_paths": [{"from": "indexer", "to": "redis:6379"}],
            "service_health_endpoints": [
                {"name": "hung", "service": "hung", "url": "http://127.0.0.1:%d/health" % HUNG_PORT}
            ],
            "service_health_timeout": 2,
        },
    ),
    Scenario(
        "links: api leaks connections",
        "links",
        (),
        (),
        (api_leaks_connections,),
        variables={**SUPERUSER, "tracktion_areas": ["database", "service_health"]},
    ),
    Scenario(
        "links: passwords of the broker changed",
        "links",
        (),
        (),
        (changed_passwords,),
        wait=1,
        variables={"tracktion_areas": ["message_queue", "service_health"]},
    ),
    Scenario(
        "links: consumer paused after work",
        "links",
        (),
        (),
        (consumer_paused_after_work,),
        wait=16,
        variables={**SHORT, "tracktion_areas": ["containers", "logs"]},
    ),
    Scenario(
        "links: sessions rejected by a full disk",
        "links",
        (),
        (),
        (sessions_rejected_by_full_disk,),
        wait=2,
        variables={**DISKS, "tracktion_areas": ["containers", "database", "logs"]},
    ),
    Scenario(
        "links: dead DNS server of a container",
        "links",
        (),
        (),
        (breaks.dead_dns_of_a_container,),
        wait=1,
        variables={
            "tracktion_areas": ["network"],
            "network_check_resolver": True,
            "network_paths": [{"from": "web", "to": "files.example.org:443"}],
        },
    ),
    Scenario(
        "links: rules of the engine flushed",
        "links",
        (),
        (),
        (rules_flushed,),
        wait=1,
        variables={
            "tracktion_areas": ["network"],
            "network_docker_host": "unix:///var/tmp/{{ tracktion_compose_project }}-engine/docker.sock",
            "network_paths": [{"from": "web", "to": "%s:9000" % OUTSIDE}],
        },
    ),
)
