# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults for incident scenarios that need a disk, a mount, a clock or a project of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from tests.integration.http_servers import page, serving
from tests.lab.certificates import issue_server, make_certificates
from tests.lab.faults import audio_processing as audio_faults
from tests.lab.faults import containers as container_faults
from tests.lab.faults import database as database_faults
from tests.lab.faults import file_watching as inotify_faults
from tests.lab.faults import host_resources as host_faults
from tests.lab.faults import message_queue as queue_faults
from tests.lab.faults.network import new_connections, pid, rule
from tests.lab.ports import free_ports
from tests.lab.shell import LabError, attempt, run, wait_until
from tests.lab.stack import SERVICES
from tests.lab.throwaway import inspect, project, wait_for

# A host whose clock is late by OFFSET seconds, for all programs that use the C library.
LATE_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static const long offset = OFFSET;
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec -= offset;
    return result;
}
time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict result, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    result->tv_sec = now.tv_sec;
    result->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""
CLOCK_PORT = 18443


@contextlib.contextmanager
def changed_service(lab, service: str, **settings):
    """A service is created again with other settings in a second compose file, and as before at the end."""
    override = lab.directory / "override.yaml"
    volumes = settings.pop("declared_volumes", {})
    override.write_text(json.dumps({"services": {service: settings}, **({"volumes": volumes} if volumes else {})}))
    # Another fault of the scenario may have stopped one.
    healthy = [name for name, health in lab.health().items() if health == "healthy" and name in SERVICES]
    try:
        lab.compose("--file", str(override), "up", "--detach", "--no-deps", service)
        lab.wait_healthy(*healthy, timeout=120)
        # The others have logged errors while it was away.
        lab.logs_since = time.time()
        yield
    finally:
        override.unlink()
        lab.compose("up", "--detach", "--no-deps", service)
        lab.wait_healthy(*healthy, timeout=120)


@contextlib.contextmanager
def loop_device(folder: Path, megabytes: int, inodes: int = 4096):
    """An ext4 file system in a file, as a loop device."""
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    run("mkfs.ext4", "-q", "-m", "0", "-N", str(inodes), image)
    device = run("losetup", "--find", "--show", image).strip()
    try:
        yield device
    finally:
        attempt("losetup", "--detach", device)
        image.unlink()


@contextlib.contextmanager
def small_disk(lab, service: str, target: str, megabytes: int, inodes: int = 4096):
    """The data of a service are on a small disk of its own, a loop device."""
    name = f"{lab.project}-{service}-disk"
    with loop_device(lab.directory, megabytes, inodes) as device:
        options = {"type": "ext4", "device": device}
        volumes = {"small-disk": {"name": name, "driver": "local", "driver_opts": options}}
        try:
            with changed_service(lab, service, volumes=[f"small-disk:{target}"], declared_volumes=volumes):
                yield
        finally:
            attempt("docker", "volume", "rm", "--force", name)


def fill(lab, service: str, folder: str, left: int = 0) -> None:
    """Allocate all space of a file system but ``left`` KiB."""
    script = (
        "free=$(df -k --output=avail %s | tail -n 1); fallocate -l $((free - %d - 64))K %s/lab-fill;"
        "head -c %d /dev/zero >>%s/lab-fill 2>/dev/null || true"
        % (folder, left, folder, 0 if left else 1 << 20, folder)
    )
    lab.exec(service, "sh", "-c", script)


def failed_save(lab) -> None:
    """Redis has to save, and cannot."""
    client = lab.redis()

    def failed() -> bool:
        persistence = client.info("persistence")
        return not persistence["rdb_bgsave_in_progress"] and persistence["rdb_last_bgsave_status"] == "err"

    client.bgsave()
    wait_until(failed, "a failed save", 20)


@contextlib.contextmanager
def full_cache_disk(lab):
    """The disk of Redis is full: it cannot save, rejects writes, and the analysis service fails."""
    with small_disk(lab, "redis", "/var/lib/redis", 32):
        fill(lab, "redis", "/var/lib/redis")
        failed_save(lab)
        bodies = [json.dumps({"path": "/y/%d" % number}).encode() for number in range(30)]
        queue_faults.publish(lab, "audio.analysis.requests", bodies)
        time.sleep(12)
        yield
    wait_until(lambda: queue_faults.depth(lab, "audio.analysis.requests") == 0, "the queue to be empty", 90)


@contextlib.contextmanager
def cache_disk_without_inodes(lab):
    """The disk of Redis has space, and no inode for another file."""
    with small_disk(lab, "redis", "/var/lib/redis", 32, inodes=64):
        script = "n=0; while : >/var/lib/redis/lab-$n; do n=$((n + 1)); done 2>/dev/null"
        attempt("docker", "exec", lab.container("redis"), "sh", "-c", script)
        failed_save(lab)
        yield


@contextlib.contextmanager
def full_broker_disk(lab):
    """The disk of the broker is nearly full: the disk alarm blocks a publisher, and the watcher publishes nothing."""
    with small_disk(lab, "rabbitmq", "/var/lib/rabbitmq", 400):
        connection = lab.amqp(heartbeat=0, client_properties={"connection_name": "lab importer"})
        fill(lab, "rabbitmq", "/var/lib/rabbitmq", left=6000)
        wait_until(lambda: queue_faults.node_of(lab).get("disk_free_alarm"), "the alarm", 40)
        connection.channel().basic_publish("", "lab.nowhere", b"{}")
        wait_until(
            lambda: any(found.get("state") == "blocked" for found in lab.rabbitmq_api("GET", "/connections")),
            "the publisher to be blocked", 30,
        )  # fmt: skip
        yield


@contextlib.contextmanager
def full_database_disk(lab):
    """The disk of PostgreSQL is full: the service that catalogues new files cannot insert them."""
    with small_disk(lab, "postgres", "/var/lib/postgresql", 256):
        fill(lab, "postgres", "/var/lib/postgresql")
        # A new session writes these files again after each change of the catalogs that they hold.
        lab.exec("postgres", "sh", "-c", "rm -f /var/lib/postgresql/data/base/*/pg_internal.init")
        bodies = [json.dumps({"path": "/z/%d/%s" % (number, "long" * 150)}).encode() for number in range(80)]
        queue_faults.publish(lab, "file.events", bodies)
        time.sleep(15)
        yield
    wait_until(lambda: queue_faults.depth(lab, "file.events") == 0, "the queue to be empty", 90)
    lab.psql("delete from tracks where path like '/z/%'")


@contextlib.contextmanager
def mistyped_mount(lab):
    """The library of the analysis service is mounted from a mistyped path, which the engine has created empty."""
    folder = lab.directory / "musik"
    try:
        with changed_service(lab, "analysis_service", volumes=["./musik:/music:ro"]):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def blind_watcher(lab):
    """No inotify watch is left when a directory is created: the files in it are not seen."""
    folder = lab.watched_directory / "incoming" / "album"
    try:
        with inotify_faults.hog(lab, "watches"):
            folder.mkdir()
            # The watcher has to try while no watch is left.
            time.sleep(1)
            (folder / "track.wav").write_bytes(b"RIFF")
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def late_clock(lab):
    """The clock of the host is ten minutes late, and a certificate was renewed five minutes ago."""
    with _tls_endpoint((-5 / 1440, 60)):
        yield


@contextlib.contextmanager
def expired_certificate(lab):
    """A certificate expired a week ago, and the clock of the host is ten minutes late, which does not explain that."""
    with _tls_endpoint((-97, -7)):
        yield


@contextlib.contextmanager
def _tls_endpoint(days: tuple[float, float]):
    folder = Path(tempfile.gettempdir(), "tracktion-late-clock")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        source = folder / "late.c"
        source.write_text(LATE_CLOCK.replace("OFFSET", "600"))
        run("gcc", "-shared", "-fPIC", "-o", folder / "late.so", source, "-ldl")
        python = folder / "python"
        python.write_text('#!/bin/sh\nLD_PRELOAD=%s exec %s "$@"\n' % (folder / "late.so", sys.executable))
        python.chmod(0o700)
        # The authority is older than the offset of the clock.
        with patch.dict(os.environ, {"LD_PRELOAD": str(folder / "late.so")}):
            make_certificates(folder / "tls", "client")
        certificate = issue_server(folder / "tls", "localhost", days)
        with serving({"/": page()}, certificate) as served:
            (folder / "port").write_text(str(served.port))
            forward = subprocess.Popen(
                [sys.executable, "-c", FORWARD % (CLOCK_PORT, served.port)], stdout=subprocess.PIPE, text=True
            )
            try:
                assert forward.stdout.readline() == "ready\n"
                yield
            finally:
                forward.kill()
                forward.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# The endpoint has a known port, as the variables of a scenario are fixed.
FORWARD = """
import socket, threading
def copy(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass
    for each in (one, other):
        each.close()
listening = socket.create_server(("127.0.0.1", %d))
print("ready", flush=True)
while True:
    near = listening.accept()[0]
    far = socket.create_connection(("127.0.0.1", %d))
    for ends in ((near, far), (far, near)):
        threading.Thread(target=copy, args=ends, daemon=True).start()
"""
CLOCK = {
    "ansible_python_interpreter": str(Path(tempfile.gettempdir(), "tracktion-late-clock", "python")),
    "tracktion_areas": ["service_health", "host_resources", "containers"],
    "service_health_endpoints": [
        {
            "name": "catalogue",
            "url": "https://localhost:%d/" % CLOCK_PORT,
            "ca_cert": str(Path(tempfile.gettempdir(), "tracktion-late-clock", "tls", "server", "ca.pem")),
        }
    ],
}


@contextlib.contextmanager
def consumer_without_names(lab):
    """The analysis service has lost its DNS server, and then its connection to the broker; requests wait."""
    file = Path(f"/proc/{pid(lab, 'analysis_service')}/root/etc/resolv.conf")
    before = file.read_text(encoding="utf-8")
    try:
        file.write_text("nameserver 127.0.0.9\n", encoding="utf-8")
        queue_faults.evaluate(
            lab, 'rabbit_networking:close_all_user_connections(<<"analysis_service">>, <<"maintenance">>)'
        )
        bodies = [json.dumps({"path": "/x/%d" % number}).encode() for number in range(200)]
        queue_faults.publish(lab, "audio.analysis.requests", bodies)
        yield
    finally:
        file.write_text(before, encoding="utf-8")
        lab.wait_healthy(timeout=90)
    wait_until(lambda: queue_faults.depth(lab, "audio.analysis.requests") == 0, "the queue to be empty", 90)


@contextlib.contextmanager
def api_cut_off(lab):
    """The API is disconnected from the network of the stack."""
    container = lab.container("tracklist_service")
    lab.docker("network", "disconnect", lab.network, container)
    try:
        yield
    finally:
        lab.docker("network", "connect", "--alias", "tracklist_service", lab.network, container)
        lab.docker("restart", "--time", "1", container)
        lab.wait_healthy(timeout=90)


@contextlib.contextmanager
def leak_takes_all_connections(lab):
    """Idle sessions of a leaking importer take all connections; those of the API were closed and cannot come back."""
    with connections_held(lab, "lab importer", "application_name like '%_service'"):
        yield


@contextlib.contextmanager
def connections_held(lab, application, ended):
    """Idle sessions of an application take all connections, also those of the sessions for which ``ended`` is true."""
    import psycopg2

    held = []
    try:
        for _round in range(2):
            with contextlib.suppress(psycopg2.OperationalError):
                while len(held) < 110:
                    held.append(lab.postgres(application_name=application))
            if not _round:
                lab.psql("select pg_terminate_backend(pid) from pg_stat_activity where %s" % ended)
        yield
    finally:
        for connection in held:
            connection.close()
        lab.wait_healthy(timeout=90)


@contextlib.contextmanager
def prepared_lock(lab):
    """A forgotten prepared transaction has locked the tracks; the requests of the API wait for it."""
    with changed_service(lab, "postgres", command=_with_prepared_transactions(lab)):
        database_faults.flushed(
            lab, "begin; lock table tracks in access exclusive mode; prepare transaction 'lab forgotten'"
        )

        def ask() -> None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(lab.url("tracklist", "/match?title=Title"), timeout=60).read()

        threads = [threading.Thread(target=ask, daemon=True) for _number in range(10)]
        for thread in threads:
            thread.start()
        try:
            waiting = "application_name = 'tracklist_service' and wait_event_type = 'Lock'"
            database_faults.wait_for_sessions(lab, waiting, 8)
            yield
        finally:
            with contextlib.suppress(LabError):
                lab.psql("rollback prepared 'lab forgotten'")
            for thread in threads:
                thread.join(20)


def _with_prepared_transactions(lab) -> list[str]:
    found = json.loads(lab.compose("config", "--format", "json"))
    return [*found["services"]["postgres"]["command"], "-cmax_prepared_transactions=10"]


@contextlib.contextmanager
def other_project(lab):
    """Another project on the host has a stopped service with the name of one of the stack."""
    with project(lab.project, f"{lab.project}x") as others:
        name = others.run(
            "tracklist_service", "sh", "-c", "exit 4", options=("--restart", "no", *container_faults.HEALTHY)
        )
        wait_for(name, "stopped", lambda state: state["Status"] == "exited")
        yield


@contextlib.contextmanager
def full_backup_disk(lab):
    """The disk of the backups is full."""
    from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
    from tests.integration.recovery import backup

    folder = Path(BACKUPS)
    with loop_device(lab.directory, 96) as device:
        folder.mkdir(parents=True)
        try:
            run("mount", device, folder)
            store = Store(str(folder / "backups"))
            server = SimpleNamespace(
                host="127.0.0.1", port=lab.ports["postgres"], user="postgres", password=lab.passwords["superuser"]
            )
            backup(SimpleNamespace(server=server), store)
            attempt("sh", "-c", "head -c 128M /dev/zero >%s/lab-fill" % folder)
            yield
        finally:
            attempt("umount", folder)
            folder.rmdir()


BACKUPS = "/var/tmp/tracktion-lab-backups"


@contextlib.contextmanager
def starting_stack(lab):
    """A service was created a moment ago and waits for those that it depends on, as during `compose up`."""
    with project(lab.project, lab.project) as others:
        name = others.run("importer", options=(*container_faults.SOUND, *container_faults.HEALTHY), verb="create")
        assert inspect(name)["State"]["Status"] == "created"
        yield


@contextlib.contextmanager
def ports_taken(lab):
    """Another program has taken the published ports of the servers and of the API, after the engine lost them."""
    names = ("postgres", "redis", "amqp", "management", "tracklist")
    services = ("postgres", "redis", "rabbitmq", "tracklist_service")
    with contextlib.ExitStack() as stack:
        for name in names:
            for proxy in _proxies(lab.ports[name]):
                os.kill(proxy, signal.SIGKILL)
            server = wait_until(lambda port=lab.ports[name]: _listening(port), "the end of the proxy", 10)
            stack.callback(server.close)
            # A thread that accepts would keep it open.
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=_close_each, args=(server,), daemon=True).start()
        try:
            yield
        finally:
            stack.close()
            lab.docker("restart", "--time", "5", *(lab.container(service) for service in services))
            lab.wait_healthy(timeout=120)


def _proxies(port: int) -> list[int]:
    """Return the processes of the engine that listen on a published port."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"docker-proxy") and str(port).encode() in words:
                found.append(int(folder.name))
    return found


def _listening(port: int) -> socket.socket | None:
    with contextlib.suppress(OSError):
        return socket.create_server(("127.0.0.1", port))
    return None


def _close_each(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


@contextlib.contextmanager
def work_done(lab):
    """The analysis service has completed thirty files, and nothing since."""
    lab.logs_since = time.time()
    bodies = [json.dumps({"path": "/w/%d" % number}).encode() for number in range(30)]
    queue_faults.publish(lab, "audio.analysis.requests", bodies)
    wait_until(lambda: queue_faults.depth(lab, "audio.analysis.requests") == 0, "the queue to be empty", 60)
    time.sleep(5)
    yield


@contextlib.contextmanager
def idle_behind_an_alarm(lab):
    """The memory alarm of the broker blocks publishers, and the consumer gets nothing more."""
    with work_done(lab), lab.fault("blocked-publisher"):
        yield


@contextlib.contextmanager
def idle_behind_the_watcher(lab):
    """The watcher does not run, and the consumer gets nothing more."""
    with work_done(lab), lab.stopped("file_watcher"):
        yield


@contextlib.contextmanager
def workers_killed_near_the_limit(lab):
    """A service uses most of its memory limit, and the kernel kills each worker that it starts."""
    with project(lab.project, lab.project) as others:
        options = (*host_faults.SMALL_MEMORY, "--restart", "unless-stopped", *container_faults.HEALTHY)
        name = others.run("importer", "python3", "-c", host_faults.KILLS % (20, 2), options=options)
        wait_until(lambda: "killed" in lab.docker("logs", name), "the first kill", 30)
        yield


@contextlib.contextmanager
def no_client_left(lab):
    """Clients hold nearly all connections of Redis, which has rejected others."""
    import redis

    client = lab.redis()
    before = client.config_get("maxclients")["maxclients"]
    held = []
    try:
        client.config_set("maxclients", 60)
        with contextlib.suppress(redis.exceptions.RedisError):
            while len(held) < 80:
                held.append(lab.redis(single_connection_client=True, retry=None))
                held[-1].ping()
        for _number in range(3):
            held.pop().close()
        yield
    finally:
        for each in held:
            each.close()
        client.config_set("maxclients", before)
        client.config_resetstat()


@contextlib.contextmanager
def empty_file(lab):
    """An empty file is in the library, and the service fails on it."""
    with contextlib.contextmanager(audio_faults.failing)(lab, "empty-lab.wav", b"", 0o644):
        yield


@contextlib.contextmanager
def published_unbound(lab):
    """A publisher sends to an exchange without a binding."""
    stop = threading.Event()

    def work(connection) -> None:
        channel = connection.channel()
        while not stop.is_set():
            channel.basic_publish("lab.unbound", "any", b"{}")
            connection.process_data_events(0.05)

    with lab.amqp() as connection:
        connection.channel().exchange_declare("lab.unbound", "topic")
        thread = threading.Thread(target=work, args=(connection,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)
            connection.channel().exchange_delete("lab.unbound")


@contextlib.contextmanager
def dead_dns_of_a_container(lab):
    """A container has a dead DNS server for names outside of its network."""
    with project(lab.project, lab.project) as others:
        options = (*container_faults.SOUND, *container_faults.HEALTHY, "--network", lab.network, "--dns", "127.0.0.9")
        others.run("web", options=options)
        yield


@contextlib.contextmanager
def dead_dns_of_the_host(lab):
    """The host has a dead DNS server, in a mount namespace of the diagnosis; its containers get the same."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("nameserver 127.0.0.9\n")
        file.flush()
        script = 'mount --bind %s /etc/resolv.conf && exec "$@"' % file.name
        lab.within = ("unshare", "--mount", "sh", "-c", script, "sh")
        try:
            yield
        finally:
            lab.within = ()


@contextlib.contextmanager
def looping_publisher(lab):
    """A container in a crash loop publishes a port, at which nothing answers while it runs."""
    with project(lab.project, lab.project) as others:
        (port,) = free_ports(1)
        options = (*container_faults.SOUND, *container_faults.HEALTHY, "--publish", "127.0.0.1:%d:8000" % port)
        name = others.run("exporter", "sh", "-c", "sleep 25; exit 3", options=options)
        wait_until(lambda: inspect(name)["RestartCount"] >= 1, "a restart", 60)
        wait_for(name, "running", lambda state: state["Status"] == "running")
        yield


@contextlib.contextmanager
def packets_dropped(lab):
    """Rules in the containers of PostgreSQL and Redis drop new connections."""
    with contextlib.ExitStack() as stack:
        for service, port in (("postgres", 5432), ("redis", 6379)):
            stack.enter_context(rule(*new_connections(port), "--jump", "DROP", inside=pid(lab, service)))
        yield


LOGIN = "import psycopg2, sys; psycopg2.connect(host=sys.argv[1], dbname=sys.argv[2], user=sys.argv[3], password='x')"


@contextlib.contextmanager
def clients_end(lab, *services):
    """Services log in to a server and end, again and again. ``services``: name, server, database, role of each."""
    options = (*container_faults.SOUND, *container_faults.HEALTHY, "--network", lab.network)
    with container_faults.beside(lab) as others:
        names = [
            others.run(name, "python3", "-c", LOGIN, server, database, role, options=options)
            for name, server, database, role in services
        ]
        for name in names:
            wait_until(lambda name=name: inspect(name)["RestartCount"] >= 4, "four restarts", 60)
        yield


@contextlib.contextmanager
def logins_rejected(lab):
    """Services end as they cannot log in: their role is locked out or expired, their database or server is closed."""
    lab.psql("create role lab_locked nologin password 'x'")
    lab.psql("create role lab_expired login password 'x' valid until '2020-01-01'")
    lab.psql("create role lab_client login password 'x'")
    lab.psql("create database lab_closed allow_connections false")
    try:
        with container_faults.beside(lab) as others:
            store = others.run("store", options=(*container_faults.SOUND, *container_faults.HEALTHY))
            lab.docker("stop", "--time", "0", store)
            with clients_end(
                lab,
                ("locked", "postgres", "tracktion", "lab_locked"),
                ("expired", "postgres", "tracktion", "lab_expired"),
                ("closed", "postgres", "lab_closed", "lab_client"),
                ("reader", "store", "tracktion", "lab_client"),
            ):
                yield
    finally:
        lab.psql("drop database lab_closed")
        lab.psql("drop role lab_locked, lab_expired, lab_client")


@contextlib.contextmanager
def own_limits_reached(lab):
    """Services end as the limit of their role, or of their database, is reached; the server has connections left."""
    lab.psql("create role lab_single login password 'x' connection limit 1")
    lab.psql("create role lab_client login password 'x'")
    lab.psql("create database lab_small connection limit 1")
    try:
        with (
            contextlib.closing(lab.postgres(user="lab_single", password="x")),
            contextlib.closing(lab.postgres(user="lab_client", password="x", dbname="lab_small")),
            clients_end(
                lab,
                ("single", "postgres", "tracktion", "lab_single"),
                ("small", "postgres", "lab_small", "lab_client"),
            ),
        ):
            yield
    finally:
        lab.psql("drop database lab_small")
        lab.psql("drop role lab_single, lab_client")


@contextlib.contextmanager
def client_without_connection(lab):
    """A service ends as the server has no connection left."""
    lab.psql("create role lab_client login password 'x'")
    try:
        with clients_end(lab, ("late", "postgres", "tracktion", "lab_client")):
            yield
    finally:
        lab.psql("drop role lab_client")
