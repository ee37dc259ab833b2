# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of Redis."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from ..shell import wait_until
from . import fault

# Blocks the server for some tenths of a second.
SLOW_SCRIPT = "local n = 0 for i = 1, 5e7 do n = n + i end return n"
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@contextlib.contextmanager
def settings_kept(client, *names: str):
    """Restore settings at the end."""
    before = {name: client.config_get(name)[name] for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)


@contextlib.contextmanager
def keys_removed(client, pattern: str):
    """Delete keys at the end, in batches that do not block the server."""
    try:
        yield
    finally:
        batch = list(client.scan_iter(pattern, count=1000))
        for start in range(0, len(batch), 1000):
            client.unlink(*batch[start : start + 1000])


@contextlib.contextmanager
def meanwhile(step):
    """Call `step` in a thread, some hundred times a second, during the context."""
    import redis

    over = threading.Event()

    def repeat():
        while not over.wait(0.003):
            with contextlib.suppress(redis.exceptions.RedisError):
                step()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)


@contextlib.contextmanager
def connections(client, count: int, *command: object):
    """Open `count` connections. Each sends the command, if there is one, and reads no reply."""
    opened = []
    try:
        for _count in range(count):
            connection = client.connection_pool.make_connection()
            connection.connect()
            opened.append(connection)
            if command:
                connection.send_command(*command)
        yield opened
    finally:
        for connection in opened:
            connection.disconnect()


def without_retries(lab, **options):
    """Return a client that does not retry."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return lab.redis(retry=Retry(NoBackoff(), 0), **options)


def fill(client, pattern: str, count: int, size: int) -> None:
    """Create `count` strings of `size` bytes, named by a pattern such as `lab:fill:%d`."""
    for start in range(0, count, 1000):
        client.mset({pattern % number: b"x" * size for number in range(start, min(start + 1000, count))})


@fault(fires=["cache.unreachable"])
def redis_hanging(lab):
    """Redis hangs: it accepts connections and does not answer."""
    lab.docker("pause", lab.container("redis"))
    yield
    lab.docker("unpause", lab.container("redis"))


@fault(fires=["cache.memory_used", "cache.eviction_impossible", "cache.error_replies"])
def memory_full(lab):
    """Memory is full up to maxmemory, and the policy evicts nothing: Redis rejects every write."""
    client = lab.redis()
    with settings_kept(client, "maxmemory", "maxmemory-policy"), keys_removed(client, "lab:fill:*"):
        fill(client, "lab:fill:%d", 2000, 8192)
        client.config_set("maxmemory-policy", "noeviction")
        # A little less than is used: changes of client buffers must not allow a write.
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 0.99))
        with meanwhile(lambda: client.set("lab:fill:more", "x")):
            yield


@fault(fires=["cache.maxmemory_unset"])
def memory_unbounded(lab):
    """maxmemory is not set."""
    client = lab.redis()
    with settings_kept(client, "maxmemory"):
        client.config_set("maxmemory", 0)
        yield


@fault(fires=["cache.maxmemory_above_limit"])
def memory_overcommitted(lab):
    """maxmemory is more than the memory of the host."""
    client = lab.redis()
    with settings_kept(client, "maxmemory"):
        client.config_set("maxmemory", "1024gb")
        yield


@fault(fires=["cache.eviction_impossible"])
def no_eviction_volatile(lab):
    """The policy evicts only keys with a time to live, and most keys have none."""
    client = lab.redis()
    with settings_kept(client, "maxmemory-policy"), keys_removed(client, "lab:eternal:*"):
        client.config_set("maxmemory-policy", "volatile-lru")
        fill(client, "lab:eternal:%d", 2000, 100)
        yield


@fault(fires=["cache.evictions"])
def evicting(lab):
    """Clients write more than fits into maxmemory, and Redis evicts keys all the time."""
    client = lab.redis()
    number = iter(range(10**9))
    with settings_kept(client, "maxmemory", "maxmemory-policy"), keys_removed(client, "lab:fill:*"):
        fill(client, "lab:fill:%d", 1000, 4096)
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        with meanwhile(lambda: fill(client, f"lab:fill:{next(number)}:%d", 50, 4096)):
            yield


@fault(fires=["cache.fragmentation"])
def fragmented(lab):
    """Many small values were deleted, so that pages of the allocator are partly filled."""
    client = lab.redis()
    with keys_removed(client, "lab:fragment:*"):
        fill(client, "lab:fragment:%d", 60000, 1000)
        for start in range(0, 60000, 1000):
            client.unlink(*(f"lab:fragment:{number}" for number in range(start, start + 1000) if number % 4))
        yield


@fault(fires=["cache.peak_memory"])
def memory_peak(lab):
    """Redis used much more memory for a moment (the peak is kept until a restart)."""
    client = lab.redis()
    with keys_removed(client, "lab:peak:*"):
        for number in range(150):
            client.set(f"lab:peak:{number}", b"x" * 1_000_000)
    yield


@fault(fires=["cache.hit_ratio"])
def lookups_missing(lab):
    """Clients look up keys that do not exist."""
    client = lab.redis()
    with meanwhile(lambda: client.mget([f"lab:nothing:{number}" for number in range(50)])):
        yield


@fault(fires=["cache.big_key"])
def big_key(lab):
    """One list has several megabytes."""
    client = lab.redis()
    with keys_removed(client, "lab:big:*"):
        for _count in range(12):
            client.rpush("lab:big:list", *(b"x" * 1000 for _count in range(1000)))
        yield


@fault(fires=["cache.keys_without_ttl", "cache.unnamed_keys_without_ttl"])
def keys_forever(lab):
    """Keys without a time to live take most of the memory."""
    client = lab.redis()
    with keys_removed(client, "lab-forever-*"), keys_removed(client, "lab:forever:*"):
        fill(client, "lab:forever:%d", 12000, 1000)
        fill(client, "lab-forever-%d", 12000, 1000)
        yield


@fault(fires=["cache.distribution_partial"])
def keys_many(lab):
    """There are more keys than can be read in a short time, and one of them has most of the bytes."""
    client = lab.redis()
    with keys_removed(client, "lab:many:*"):
        client.rpush("lab:many:big", *(b"x" * 1000 for _count in range(40000)))
        for start in range(0, 200000, 10000):
            client.mset({f"lab:many:{number}": b"x" for number in range(start, start + 10000)})
        yield


@fault(fires=["cache.stream_pending"])
def entries_pending(lab):
    """A consumer of a stream has taken entries an hour ago and has not acknowledged them."""
    client = lab.redis()
    with keys_removed(client, "lab:jobs"):
        client.xgroup_create("lab:jobs", "workers", mkstream=True)
        for number in range(30):
            client.xadd("lab:jobs", {"track": number})
        taken = client.xreadgroup("workers", "worker-1", {"lab:jobs": ">"})[0][1]
        client.xclaim("lab:jobs", "workers", "worker-1", 0, [entry for entry, _fields in taken], idle=3600000)
        yield


@fault(fires=["cache.slow_commands"])
def slow_commands(lab):
    """Scripts have blocked the server for tenths of a second each."""
    client = lab.redis()
    for _count in range(2):
        client.eval(SLOW_SCRIPT, 0)
    yield
    client.slowlog_reset()


@fault(fires=["cache.latency_events"])
def latency_events(lab):
    """The server was blocked for some tenths of a second, and its latency monitor has recorded it."""
    client = lab.redis()
    with settings_kept(client, "latency-monitor-threshold"):
        client.config_set("latency-monitor-threshold", 50)
        client.eval(SLOW_SCRIPT, 0)
        yield
        client.latency_reset()
        client.slowlog_reset()


@fault(fires=["cache.command_busy", "cache.cpu"])
def command_busy(lab):
    """One client's scripts take nearly all of the server's time."""
    client = lab.redis()
    with meanwhile(lambda: client.eval("local n = 0 for i = 1, 1e7 do n = n + i end return n", 0)):
        yield
    client.slowlog_reset()


@fault(fires=["cache.error_replies"])
def wrong_password(lab):
    """A client repeatedly tries to log in with a wrong password."""
    client = without_retries(lab, password="not it")
    with meanwhile(client.ping):
        yield


@fault(fires=["cache.rdb_save_failed", "cache.not_serving"])
def save_failing(lab):
    """Redis cannot write its snapshot, as with a full or read-only disk, and rejects writes."""
    client = lab.redis()

    def last_save(outcome: str) -> bool:
        persistence = client.info("persistence")
        return not persistence["rdb_bgsave_in_progress"] and persistence["rdb_last_bgsave_status"] == outcome

    with settings_kept(client, "save"):
        # Redis rejects writes after a failed save only if save rules are set.
        client.config_set("save", "3600 1")
        try:
            lab.exec("redis", "chown", "root:root", "/var/lib/redis")
            client.bgsave()
            wait_until(lambda: last_save("err"), "a failed save", 20)
            yield
        finally:
            lab.exec("redis", "chown", "redis:redis", "/var/lib/redis")
        # Redis retries by itself, and two saves at once are an error.
        client.bgsave(schedule=True)
        wait_until(lambda: last_save("ok"), "a successful save", 20)


@fault(fires=["cache.rdb_save_old"])
def save_overdue(lab):
    """The last snapshot is older than the limit (0 s in the test)."""
    client = lab.redis()
    with settings_kept(client, "save"), keys_removed(client, "lab:changed"):
        client.config_set("save", "86400 1000000")
        client.set("lab:changed", 1)
        yield


@fault(fires=["cache.aof_failed"])
def aof_failing(lab):
    """The append-only file cannot be rewritten."""
    client = lab.redis()

    def rewritten(outcome: str) -> bool:
        persistence = client.info("persistence")
        busy = persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"]
        return not busy and persistence["aof_last_bgrewrite_status"] == outcome

    folder = "/var/lib/redis/" + client.config_get("appenddirname")["appenddirname"]
    with settings_kept(client, "appendonly"):
        client.config_set("appendonly", "yes")
        wait_until(lambda: rewritten("ok"), "the first append-only file", 20)
        try:
            # The child writes its temporary file beside the directory, and the server a new increment into it.
            lab.exec("redis", "chown", "root:root", folder, "/var/lib/redis")
            with contextlib.suppress(Exception):
                client.bgrewriteaof()
            wait_until(lambda: rewritten("err"), "a failed rewrite", 20)
            yield
        finally:
            lab.exec("redis", "chown", "redis:redis", folder, "/var/lib/redis")
            client.bgrewriteaof()
            wait_until(lambda: rewritten("ok"), "a successful rewrite", 20)


@fault(fires=["cache.clients_used"])
def connections_leaking(lab):
    """A client has opened nearly maxclients connections."""
    client = lab.redis()
    with settings_kept(client, "maxclients"):
        client.config_set("maxclients", 80)
        with connections(client, 70):
            yield


@fault(fires=["cache.rejected_connections"])
def connections_refused(lab):
    """Redis has rejected connections, because maxclients was reached."""
    client = lab.redis()
    with settings_kept(client, "maxclients"):
        client.config_set("maxclients", 30)
        with contextlib.suppress(Exception), connections(without_retries(lab), 40):
            pass
        yield
    client.config_resetstat()


@fault(fires=["cache.blocked_clients"])
def clients_blocked(lab):
    """Workers wait for jobs that no producer adds."""
    client = lab.redis()
    with connections(client, 25, "BLPOP", "lab:nothing", 0):
        wait_until(lambda: client.info("clients")["blocked_clients"] >= 25, "blocked clients", 10)
        yield


@fault(fires=["cache.client_buffers"])
def client_not_reading(lab):
    """A client sends many queries and reads no reply."""
    client = lab.redis()
    with keys_removed(client, "lab:large"):
        client.set("lab:large", b"x" * 1_000_000, ex=3600)
        with connections(client, 1) as (connection,):
            # The kernel and a proxy buffer some forty megabytes before the server has to keep the rest.
            for _count in range(120):
                connection.send_command("GET", "lab:large")
            wait_until(
                lambda: any(int(each["omem"]) > 50_000_000 for each in client.client_list()), "a full buffer", 10
            )
            yield


@fault(fires=["cache.replication_link_down"])
def primary_lost(lab):
    """Redis is a replica of a server that does not run."""
    client = lab.redis()
    client.replicaof("127.0.0.1", 1)
    yield
    client.replicaof("no", "one")


@fault(fires=["cache.too_few_replicas"])
def replicas_missing(lab):
    """Redis needs a replica for each write, and has none."""
    client = lab.redis()
    client.config_set("min-replicas-to-write", 1)
    yield
    client.config_set("min-replicas-to-write", 0)


@fault(fires=["cache.replica_lag"])
def replica_stuck(lab):
    """A replica has requested a full synchronisation and sends no acknowledgements (the test waits 2 s, not 10)."""
    client = lab.redis()
    with connections(client, 1) as (replica,):
        replica.send_command("REPLCONF", "listening-port", 6380)
        replica.read_response()
        replica.send_command("PSYNC", "?", -1)
        wait_until(lambda: client.info("replication").get("slave0", {}).get("lag", 0) >= 2, "a replica behind", 15)
        yield


@fault(fires=["cache.transparent_hugepages"])
def huge_pages(lab):
    """Transparent huge pages are on for every process."""
    before = HUGE_PAGES.read_text(encoding="ascii")
    HUGE_PAGES.write_text("always", encoding="ascii")
    yield
    HUGE_PAGES.write_text(before[before.index("[") + 1 : before.index("]")], encoding="ascii")
