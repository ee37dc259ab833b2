# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that are healthy, but of an unusual kind or at an unusual time: not one finding above info."""

from __future__ import annotations

import contextlib
import threading
import time

import pika
import pytest
import redis

from tests.integration import areas
from tests.integration.healthy import assert_quiet, findings_of
from tests.integration.postgresql import autovacuuming, database, running, session, standby_of
from tests.integration.rabbitmq import forget_connections
from tests.integration.redis_lab import cache
from tests.lab.engine import docker
from tests.lab.shell import wait_until

# A busy machine makes any of these slow, and the server has 2 MB of shared buffers.
BUSY = {"database_slow_statement_warning": 3600, "database_cache_hit_warning": 0}
BUSY_CACHE = {
    "cache_%s_%s" % (name, level): 3600
    for name in ("slow_command", "latency", "command_busy", "cpu", "replica_lag")
    for level in ("warning", "critical")
}
# What takes its time on purpose here.
SHORT = {"database_%s_warning" % name: 0.5 for name in ("long_query", "long_transaction", "idle_in_transaction")}
LAG = {"database_replication_lag_seconds_warning": 0.5}
# What a role with few rights cannot see, with the right that is missing in the hint.
HIDDEN = {
    "monitor": ("database.sequence_exhaustion",),
    "application": tuple(
        "database." + name
        for name in (
            *("connections_used", "long_query", "long_transaction", "idle_in_transaction", "aborted_transaction"),
            *("synchronous_standby", "pending_restart", "standby_lag"),
        )
    ),
}


def found_by(pg, settings=None, **login):
    return pg.diagnose({**BUSY, **(settings or {})}, **login)


def status(pg, check_id, settings=None, **login):
    return {each["status"] for each in found_by(pg, settings, **login) if each["id"] == check_id}


def setting(connection, *settings):
    """Change settings of a server, and wait until it has read them."""
    with connection.cursor() as cursor:
        for each in settings:
            cursor.execute("alter system set " + each)
        cursor.execute("select pg_reload_conf()")


@pytest.fixture(scope="module")
def pg():
    """A server of its own, which is not tidied up: many partitions take as long to drop as to create."""
    with database("trixie") as found:
        # So that a standby has it too, and can copy logical slots.
        found.psql("alter system set wal_level = 'logical'")
        yield found


# PostgreSQL


def test_a_primary_and_its_synchronous_standby(pg):
    # The standby does not use it yet.
    pg.psql("select pg_create_physical_replication_slot('standby_1')")
    assert_quiet("primary, slot not used yet", found_by(pg))
    with (
        standby_of(pg) as there,
        contextlib.closing(pg.postgres(superuser=True, host=there["login_host"], port=there["login_port"])) as standby,
    ):
        standby.autocommit = True
        conninfo = "user=postgres host=/run/postgresql dbname=tracktion application_name=standby_1"
        setting(
            standby,
            "primary_slot_name = 'standby_1'",
            "primary_conninfo = '%s'" % conninfo,
            "hot_standby_feedback = on",
            "sync_replication_slots = on",
        )
        setting(pg.connection, "synchronous_standby_names = 'standby_1'")
        synchronous = "select count(*) from pg_stat_replication where sync_state = 'sync' and state = 'streaming'"
        wait_until(lambda: pg.psql(synchronous) == "1", "the synchronous standby", 30)
        pg.psql("create table lab_rows as select generate_series(1, 1000) n")
        pg.psql("select pg_create_logical_replication_slot('failover', 'pgoutput', false, false, true)")
        copied = "select count(*) from pg_replication_slots where synced"
        with standby.cursor() as cursor:

            def is_copied():
                cursor.execute(copied)
                return cursor.fetchone() == (1,)

            wait_until(is_copied, "the copy of the slot", 60)
        # Its consumer is not part of this test.
        primary = [each for each in found_by(pg, SHORT) if each["object"] != "failover"]
        assert_quiet("primary, synchronous standby", primary)
        wait_until(lambda: not status(pg, "database.standby_lag", **there), "the standby to follow", 30)
        assert_quiet("hot standby", found_by(pg, **there))
        for role, hidden in HIDDEN.items():
            assert_quiet("hot standby, role %s" % role, found_by(pg, role=role, **there), hidden)
        pg.psql("select pg_drop_replication_slot('failover')")

        # Delayed on purpose.
        setting(standby, "recovery_min_apply_delay = '1h'")
        pg.psql("alter system reset synchronous_standby_names")
        pg.psql("select pg_reload_conf()")
        pg.psql("create table lab_more as select generate_series(1, 1000) n")
        waiting = "select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
        with standby.cursor() as cursor:

            def is_behind():
                cursor.execute(waiting)
                return cursor.fetchone() == (True,)

            wait_until(is_behind, "the delay", 30)
        time.sleep(max(LAG.values()))
        assert_quiet("delayed standby", found_by(pg, LAG, **there))
        delayed = {**LAG, "database_delayed_standbys": ["standby_1"]}
        assert_quiet("primary of a delayed standby", found_by(pg, delayed))
        with standby.cursor() as cursor:
            cursor.execute("select pg_wal_replay_pause()")
        assert status(pg, "database.standby_lag", LAG, **there) == {"warning"}
        with standby.cursor() as cursor:
            cursor.execute("select pg_wal_replay_resume()")

        # Fed from an archive, without a connection to the primary.
        setting(standby, "recovery_min_apply_delay = 0", "restore_command = 'false'", "primary_conninfo = ''")
        wait_until(lambda: pg.psql("select count(*) from pg_stat_replication") == "0", "the connection to end", 30)
        assert_quiet("standby of an archive", found_by(pg, LAG, **there))
    # Now its consumer is gone.
    assert status(pg, "database.inactive_slot") == {"warning"}
    pg.psql("select pg_drop_replication_slot('standby_1')")


def test_a_publisher_and_its_subscriber(pg):
    pg.psql("create table lab_published (id int primary key)")
    pg.psql("insert into lab_published select generate_series(1, 1000)")
    pg.psql("analyze lab_published")
    pg.psql("create publication lab for table lab_published")
    pg.psql("create database lab_subscriber")
    with contextlib.closing(pg.postgres(superuser=True, dbname="lab_subscriber")) as subscriber:
        subscriber.autocommit = True
        cursor = subscriber.cursor()
        cursor.execute("create table lab_published (id int primary key)")
        pg.psql("select pg_create_logical_replication_slot('lab', 'pgoutput')")
        cursor.execute(
            "create subscription lab connection 'user=postgres host=/run/postgresql dbname=tracktion' publication lab "
            "with (create_slot = false, slot_name = lab)"
        )
        ready = "select count(*) from pg_subscription_rel where srsubstate = 'r'"

        def is_ready():
            cursor.execute(ready)
            return cursor.fetchone() == (1,)

        wait_until(is_ready, "the copy of the table", 60)
        time.sleep(SHORT["database_long_query_warning"])
        assert_quiet("publisher, logical walsender", found_by(pg, SHORT))
        assert_quiet("subscriber", found_by(pg, SHORT, login_db="lab_subscriber"))
        cursor.execute("drop subscription lab")


def test_backups_and_maintenance(pg):
    pg.psql("create table lab_indexed as select generate_series(1, 100) n")
    pg.psql("create function lab_slow(n int) returns int immutable language sql return (select n from pg_sleep(60))")
    pg.psql("alter table lab_indexed owner to tracktion_user")
    snapshot = ("set transaction isolation level repeatable read", "select 1 from pg_class")
    with (
        session(pg, *snapshot, superuser=True, application_name="pg_dump"),
        running(pg, "copy (select pg_sleep(60)) to stdout", "pg_dump", "query like 'copy%'"),
        running(pg, "create index on lab_indexed (lab_slow(n))", "lab index"),
    ):
        time.sleep(max(SHORT.values()))
        found = found_by(pg, SHORT)
        assert_quiet("pg_dump and an index build", found)
        assert [each["status"] for each in found if each["id"] == "database.long_query"] == ["info", "info"]
        assert not [each for each in found if "lab index" in each["summary"] and each["remedy"]]


def test_autovacuum_at_work(pg):
    with autovacuuming(pg):
        assert_quiet("autovacuum at work", found_by(pg))


def test_a_prepared_transaction_is_possible_and_none_is_open(pg):
    assert pg.psql("show max_prepared_transactions") == "10"
    assert_quiet("prepared transactions enabled", found_by(pg))


def test_two_thousand_partitions(pg):
    """A tree of 20 partitions with 100 each: PostgreSQL needs a minute for 2,000 of one table."""
    with contextlib.closing(pg.postgres()) as owner:
        owner.autocommit = True
        cursor = owner.cursor()
        cursor.execute("create table lab_events (at int not null, name text) partition by range (at)")
        for branch in range(0, 2000, 100):
            cursor.execute(
                "create table lab_events_of_%d partition of lab_events for values from (%d) to (%d) "
                "partition by range (at)" % (branch, branch, branch + 100)
            )
            cursor.execute(
                "do $$ begin for i in %d..%d loop execute format('create table lab_events_%%s partition of "
                "lab_events_of_%d for values from (%%s) to (%%s)', i, i, i + 1); end loop; end $$"
                % (branch, branch + 99, branch)
            )
        cursor.execute("insert into lab_events select n, 'x' from generate_series(0, 1999) n")
    assert_quiet("2,000 partitions", found_by(pg))


def test_three_hundred_databases(pg):
    """The rows of the catalog are those of CREATE DATABASE, which takes half a minute for as many."""
    columns = pg.psql("select string_agg(quote_ident(attname), ', ') from pg_attribute where attrelid = "
                      "'pg_database'::regclass and attnum > 0 and attname not in ('oid', 'datname')")  # fmt: skip
    pg.psql(
        "insert into pg_database (oid, datname, %s) select 100000 + n, 'Lab.' || n, %s from pg_database, "
        "generate_series(1, 300) n where datname = 'tracktion'" % (columns, columns)
    )
    try:
        assert int(pg.psql("select count(*) from pg_database")) > 300
        assert_quiet("300 databases", found_by(pg))
        assert_quiet("300 databases, role monitor", found_by(pg, role="monitor"), HIDDEN["monitor"])
    finally:
        pg.psql("delete from pg_database where datname like 'Lab.%'")


# Redis


@contextlib.contextmanager
def repeated(work):
    """Call ``work`` again and again in a thread."""
    stop = threading.Event()

    def run():
        while not stop.is_set():
            work()
            time.sleep(0.01)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def fill(client, prefix, count, size):
    for first in range(0, count, 1000):
        pipe = client.pipeline(transaction=False)
        for number in range(first, min(first + 1000, count)):
            pipe.set("%s:%d" % (prefix, number), "x" * size)
        pipe.execute()


@pytest.fixture
def empty_redis(redis8):
    """A server without keys, with the limit and the policy that it was started with."""
    client = redis8.redis()
    kept = client.config_get("maxmemory*")
    client.flushall()
    yield redis8
    client.flushall()
    for name in ("maxmemory", "maxmemory-policy"):
        client.config_set(name, kept[name])


def test_a_full_cache_with_a_good_hit_ratio(empty_redis):
    client = empty_redis.redis()
    client.config_set("maxmemory", "12mb")
    fill(client, "page", 25000, 500)
    written = iter(range(10**9))

    def work():
        pipe = client.pipeline(transaction=False)
        for _each in range(20):
            pipe.set("new:%d" % next(written), "y" * 500)
        for _each in range(60):
            pipe.set("hot", "z")
            pipe.get("hot")
        pipe.execute()

    with repeated(work):
        found = empty_redis.findings(tracktion_sample_seconds=1, **BUSY_CACHE)
    assert_quiet("cache, allkeys-lru, full", found)
    assert {"cache.memory_used", "cache.evictions"} <= set(found)


def test_a_store_without_eviction_and_without_persistence(empty_redis):
    client = empty_redis.redis()
    client.config_set("maxmemory-policy", "noeviction")
    fill(client, "user", 25000, 1000)
    found = empty_redis.findings(**BUSY_CACHE)
    assert_quiet("store, noeviction, no snapshots", found)
    assert "cache.keys_without_ttl" in found


def test_workers_that_wait_for_jobs(redis8):
    before = redis8.redis().info("clients")["connected_clients"]
    clients = [redis8.redis() for _each in range(120)]
    threads = [threading.Thread(target=client.blpop, args=("lab.jobs", 60)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: redis8.redis().info("clients")["blocked_clients"] == len(clients), "the workers to wait", 20)
        assert_quiet("120 workers in BLPOP", redis8.findings(**BUSY_CACHE))
    finally:
        redis8.redis().rpush("lab.jobs", *range(len(clients)))
        for thread, client in zip(threads, clients, strict=True):
            thread.join()
            client.close()
        wait_until(
            lambda: redis8.redis().info("clients")["connected_clients"] <= before + 1, "the workers to leave", 20
        )


MASTERS = 3
CLUSTER = "--cluster-enabled yes --cluster-node-timeout 2000 --appendonly no --protected-mode no --maxmemory 64mb"


def test_a_replica_with_sentinel_and_a_cluster():
    """A primary, its replica, a Sentinel, and a cluster of six nodes, all in one container."""
    with cache("trixie") as server:
        password, address = server.server.password, server.server.address
        start = "mkdir -p /tmp/%(port)d && cd /tmp/%(port)d && redis-server --port %(port)d --bind '*' --save '' "
        start += "--requirepass %(password)s --masterauth %(password)s --logfile log --daemonize yes %(more)s"

        def run(port, more):
            server.server.exec("sh", "-c", start % {"port": port, "password": password, "more": more})
            return redis.Redis(host=address, port=port, password=password)

        replica = run(7100, "--maxmemory 256mb --protected-mode no --replicaof %s 6379" % address)
        server.redis().config_set("masterauth", password)
        lines = ("port 26379", "protected-mode no", "dir /tmp", "sentinel monitor lab %s 6379 1" % address)
        text = "\n".join([*lines, "sentinel auth-pass lab %s" % password, ""])
        server.server.exec("sh", "-c", "cat > /tmp/sentinel.conf", stdin=text)
        docker("exec", "--detach", server.server.name, "redis-server", "/tmp/sentinel.conf", "--sentinel")
        nodes = [run(7000 + number, CLUSTER) for number in range(2 * MASTERS)]
        create = ("redis-cli", "-a", password, "--cluster", "create", "--cluster-yes", "--cluster-replicas", "1")
        server.server.exec(*create, *("%s:%d" % (address, 7000 + number) for number in range(2 * MASTERS)))
        fill(server.redis(), "page", 1000, 100)

        def linked(client):
            return client.info("replication").get("master_link_status") == "up"

        wait_until(lambda: linked(replica), "the replica", 30)
        wait_until(lambda: len(server.redis().info("clients")) and sentinel(address), "Sentinel", 30)
        wait_until(lambda: sum(map(linked, nodes)) == MASTERS, "the replicas of the cluster", 60)
        for node in nodes:
            wait_until(
                lambda node=node: node.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster", 60
            )
        # A container with a memory limit, and no maxmemory.
        docker("update", "--memory", "512m", "--memory-swap", "512m", server.server.name)
        server.redis().config_set("maxmemory", 0)
        found = server.findings(**BUSY_CACHE)
        assert_quiet("primary with replica and Sentinel", found)
        assert "cache.maxmemory_unset" in found
        at = {**BUSY_CACHE, "cache_login_host": address}
        assert_quiet("read-only replica", server.findings(cache_login_port=7100, **at))
        for number in range(2 * MASTERS):
            found = server.findings(cache_login_port=7000 + number, **at)
            assert_quiet("cluster, node %d" % number, found)


def sentinel(address):
    """Return whether Sentinel has found the replica."""
    try:
        (known,) = redis.Redis(host=address, port=26379).sentinel_masters().values()
    except redis.ConnectionError:
        return False
    return known["num-slaves"] == 1


# RabbitMQ


def messages(channel, queue, count, exchange=""):
    properties = pika.BasicProperties(delivery_mode=2, timestamp=int(time.time()))
    for _each in range(count):
        channel.basic_publish(exchange, queue, b"x", properties)


# Queues of all kinds: name, arguments and ready messages.
QUEUES = (
    ("lab.quorum", {"x-queue-type": "quorum"}, 200),
    ("lab.stream", {"x-queue-type": "stream"}, 2000),
    ("lab.single", {"x-single-active-consumer": True}, 200),
    ("lab.lazy", {"x-queue-mode": "lazy"}, 200),
    ("lab.priority", {"x-max-priority": 5}, 200),
    ("lab.work", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lab.retry"}, 100),
    (
        "lab.retry",
        {"x-message-ttl": 1000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lab.work"},
        0,
    ),
    (
        "lab.later",
        {"x-message-ttl": 3600000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lab.work"},
        300,
    ),
    ("lab.polled", {}, 900),
    ("lab.slow", {}, 30),
    ("lab.unrouted", {}, 0),
)
# Consumers: queue, seconds for each message, prefetch limit, and whether it rejects each message twice.
CONSUMERS = (
    ("lab.quorum", 0.05, 10, False),
    ("lab.single", 0.05, 10, False),
    ("lab.single", 0.05, 10, False),
    ("lab.lazy", 0.05, 10, False),
    ("lab.priority", 0.05, 10, False),
    ("lab.work", 0.05, 10, True),
    ("lab.slow", 8, 1, False),
)


def consume(broker, stop, queue, seconds, prefetch, rejects):
    with broker.amqp() as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=prefetch)
        for method, properties, _body in channel.consume(queue, inactivity_timeout=0.2):
            if stop.is_set():
                return
            if method is None:
                continue
            stop.wait(seconds)
            deaths = (properties.headers or {}).get("x-death") or [{}]
            if rejects and deaths[0].get("count", 0) < 2:
                channel.basic_nack(method.delivery_tag, requeue=False)
            else:
                channel.basic_ack(method.delivery_tag)


def poll(broker, stop):
    with broker.amqp() as connection:
        channel = connection.channel()
        while not stop.wait(0.25):
            method, _properties, _body = channel.basic_get("lab.polled")
            if method:
                channel.basic_ack(method.delivery_tag)


@contextlib.contextmanager
def busy_queues(broker):
    """Yield a channel to a broker with queues of all kinds, whose messages are processed."""
    stop = threading.Event()
    threads = [threading.Thread(target=consume, args=(broker, stop, *each)) for each in CONSUMERS]
    threads.append(threading.Thread(target=poll, args=(broker, stop)))
    with broker.amqp() as connection:
        channel = connection.channel()
        for name, arguments, count in QUEUES:
            channel.queue_declare(name, durable=True, arguments=arguments)
            messages(channel, name, count)
        channel.exchange_declare("lab.alternate", "fanout", durable=True)
        channel.queue_bind("lab.unrouted", "lab.alternate")
        channel.exchange_declare("lab.orders", "direct", arguments={"alternate-exchange": "lab.alternate"})
        channel.queue_declare("", exclusive=True, auto_delete=True)
        for thread in threads:
            thread.start()
        try:
            yield channel
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for name, _arguments, _count in QUEUES:
                channel.queue_delete(name)
            for name in ("lab.orders", "lab.alternate"):
                channel.exchange_delete(name)


def look(broker, **settings):
    forget_connections()
    return broker.diagnose(**settings)


def test_fifty_vhosts(rabbitmq310):
    api, names = rabbitmq310.rabbitmq_api, ["Lab.%d" % number for number in range(50)]
    everything = dict.fromkeys(("configure", "write", "read"), ".*")
    try:
        for name in names:
            api("PUT", "/vhosts/" + name, {})
            api("PUT", "/permissions/%s/%s" % (name, rabbitmq310.server.user), everything)
            api("PUT", "/queues/%s/work" % name, {"durable": True})
        rabbitmq310.user("lab.monitor", "monitoring", dict.fromkeys([*names, "/"], "^$"))
        wait_until(
            lambda: not [row for row in findings_of(look(rabbitmq310)) if row["status"] == "unknown"],
            "the statistics of the broker",
            60,
        )
        assert_quiet("50 vhosts", look(rabbitmq310))
        login = {"message_queue_login_user": "lab.monitor", "message_queue_login_password": "lab.monitor"}
        assert_quiet("50 vhosts, user monitor", look(rabbitmq310, **login))
    finally:
        for name in names:
            api("DELETE", "/vhosts/" + name)
        api("DELETE", "/users/lab.monitor")


def test_queues_of_all_kinds(rabbitmq40):
    settings = rabbitmq40.settings(message_queue_stuck_consumer_warning=5, message_queue_head_age_warning=1)

    def measured():
        """Return the measurement, once the broker's statistics show the work."""
        forget_connections()
        visited = areas.visit("message_queue", settings)
        queues = {queue["name"]: queue for queue in visited[1]["measurement"]["queues"]["queues"]}
        slow, polled = queues["lab.slow"], queues["lab.polled"]
        known = slow["slowest_ack_seconds"] and polled["polled"] and not slow["publish_rate"] + polled["publish_rate"]
        return visited if known and not queues["lab.work"]["total"] else None

    with busy_queues(rabbitmq40) as channel:
        messages(channel, "nobody", 3, exchange="lab.orders")
        found = areas.evaluate(*wait_until(measured, "the statistics of the broker", 200))
        assert_quiet("queues of all kinds", found)
        assert [each["object"] for each in found["message_queue.no_consumer"]] == ["/ lab.unrouted"]
        assert "/ lab.slow" in [each["object"] for each in found["message_queue.head_message_age"]]
