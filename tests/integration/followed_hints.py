# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is expected of the hint of each check, by the fault of the lab that makes it fire.

A fault whose checks fire for several faults is followed once.
"""

from __future__ import annotations

from tests.integration.following import Hint

CLIENT = "the client has to be changed"
CODE = "the cause is in an application"
CONFIGURATION = "the configuration has to be changed, and the server restarted"
COMPOSE_FILE = "the compose file has to be changed"
CAUSE = "another finding has the cause"
UNKNOWN_CAUSE = "the cause is known only after its log was read"
REPAIR = "a part of the system has to be repaired, outside of the server"
# What a person repairs after the log of the server was read.
OWNED = "chown redis:redis /var/lib/redis"
REMOVED = "find /var/lib/rabbitmq/mnesia/rabbit@localhost/msg_stores/vhosts -maxdepth 1 -type f -delete"


def ends(*words: str) -> Hint:
    """A hint whose commands repair the fault; ``words`` begin commands that are left out."""
    return Hint(fixes=True, leaves="|".join(words))


def shows(*patterns: str, leaves: str = "", about: str = "") -> Hint:
    """A hint whose commands only show what a person needs to know."""
    return Hint(shows=patterns, leaves=leaves, about=about)


def for_person(reason: str) -> Hint:
    """A hint without a command, as a person has to do something else."""
    return Hint(person=reason)


AUDIO_PROCESSING = {
    "temporary-files-left": {"audio_processing.leftovers": ends()},
    "undecodable-file": {
        "audio_processing.failed_file": Hint(person="what the file should hold", leaves="^ansible-playbook")
    },
    "unreadable-file": {
        "audio_processing.library_unreadable": ends(),
        # Its command is that of the next diagnosis.
        "audio_processing.failed_file": Hint(person=CAUSE, leaves="^ansible-playbook"),
    },
}

DATABASE = {
    "blocked-transaction": {
        "database.idle_in_transaction": ends(),
        "database.long_transaction": for_person(CODE),
        "database.blocked_sessions": ends(),
    },
    "cache-misses": {"database.cache_hit": for_person(CONFIGURATION)},
    "connections-exhausted": {"database.connections_used": for_person("which application may lose its sessions")},
    "dead-tuples": {
        "database.dead_tuples": ends(),
        "database.vacuum_overdue": ends(),
        "database.analyze_overdue": ends(),
    },
    "deadlock": {"database.deadlocks": for_person(CODE)},
    "duplicate-index": {"database.duplicate_index": ends()},
    "exhausted-sequence": {"database.sequence_exhaustion": ends()},
    "failing-archive": {"database.archive_failures": for_person(UNKNOWN_CAUSE)},
    "forgotten-slot": {"database.inactive_slot": ends(), "database.slot_wal_retained": ends()},
    "interrupted-index": {"database.invalid_index": ends("DROP")},
    "interrupted-reindex": {"database.left_behind_index": ends()},
    # Its rows violate the unique index: a person has to remove them, or the index.
    "invalid-index": {"database.invalid_index": ends("REINDEX")},
    "lagging-receiver": {"database.replication_lag": for_person(REPAIR)},
    "locks-held": {"database.locks_used": shows(r"\|8\d\d\b")},
    "long-query": {"database.long_query": for_person("whether the query may take so long")},
    "missing-index": {"database.sequential_scans": for_person("which columns the statements filter by")},
    "old-snapshot": {
        "database.xmin_held": ends(),
        "database.xid_age": for_person(CAUSE),
    },
    "pending-restart": {"database.pending_restart": ends()},
    "prepared-transaction": {
        "database.prepared_transaction_old": ends("COMMIT"),
        "database.blocked_by_server": ends("COMMIT"),
    },
    "requested-checkpoints": {
        # The counters of the checkpoints remain.
        "database.checkpoints_requested": Hint(),
    },
    "shared-row-locks": {"database.multixact_age": for_person(CAUSE)},
    "slow-statement": {
        "database.slow_statement": for_person("typical values of the statement"),
        "database.heavy_statement": for_person("typical values of the statement"),
    },
    "statements-off": {"database.statements_off": ends()},
    "temporary-files": {"database.temp_files": for_person("which role may use more memory")},
    "unindexed-foreign-key": {"database.foreign_key_without_index": ends()},
    "autovacuum-off": {"database.harmful_setting": ends()},
    "writes-off": {"database.writes_off": ends()},
    "unused-index": {"database.unused_index": Hint(fixes=True, about="lab_unused")},
}

CACHE = {
    "aof-failing": {"cache.aof_failed": Hint(fixes=True, repair=OWNED + " /var/lib/redis/appendonlydir")},
    "big-key": {"cache.big_key": ends()},
    "client-not-reading": {"cache.client_buffers": ends()},
    "clients-blocked": {"cache.blocked_clients": for_person(CODE)},
    "command-busy": {"cache.command_busy": shows(r"cmd=\w+"), "cache.cpu": for_person(CAUSE)},
    "connections-leaking": {"cache.clients_used": shows(r"addr=\S+ .*idle=\d")},
    "connections-refused": {"cache.rejected_connections": shows(r"addr=\S+")},
    "entries-pending": {"cache.stream_pending": shows("worker-1")},
    "evicting": {"cache.evictions": for_person(CAUSE)},
    "fragmented": {
        "cache.fragmentation": Hint(
            leaves="activedefrag", person="Redis of Debian cannot defragment its memory: it has to be restarted"
        )
    },
    "huge-pages": {"cache.transparent_hugepages": ends()},
    "keys-forever": {
        "cache.keys_without_ttl": for_person(CODE),
        "cache.unnamed_keys_without_ttl": for_person(CODE),
    },
    "keys-many": {"cache.distribution_partial": for_person("how long a diagnosis may take")},
    "latency-events": {"cache.latency_events": for_person(CAUSE)},
    "lookups-missing": {"cache.hit_ratio": for_person(CAUSE)},
    "memory-full": {
        "cache.eviction_impossible": for_person("whether the data may be evicted"),
        "cache.memory_used": ends(),
        "cache.error_replies": for_person(CAUSE),
    },
    "memory-overcommitted": {"cache.maxmemory_above_limit": ends()},
    "memory-peak": {"cache.peak_memory": Hint()},
    "memory-unbounded": {"cache.maxmemory_unset": ends()},
    "no-eviction-volatile": {"cache.eviction_impossible": for_person("whether the data may be evicted")},
    "primary-lost": {"cache.replication_link_down": for_person(REPAIR)},
    "redis-hanging": {"cache.unreachable": shows("redis-server")},
    "replica-stuck": {"cache.replica_lag": for_person(REPAIR)},
    "replicas-missing": {"cache.too_few_replicas": ends()},
    "save-failing": {
        "cache.rdb_save_failed": Hint(fixes=True, repair=OWNED),
        "cache.not_serving": Hint(fixes=True),
    },
    "save-overdue": {"cache.rdb_save_old": Hint(shows=("86400 1000000",), fixes=True)},
    "slow-commands": {"cache.slow_commands": shows("(?i)eval")},
    "wrong-password": {"cache.error_replies": shows("auth")},
}

# These containers have no compose file that a command could apply.
UP = "^docker compose up"

CONTAINERS = {
    "bare-service": {
        "containers.no_healthcheck": for_person(COMPOSE_FILE),
        "containers.no_restart_policy": for_person(COMPOSE_FILE),
        "containers.no_memory_limit": for_person(COMPOSE_FILE),
    },
    "changed-limit": {"containers.compose_drift": ends()},
    "crash-loop": {"containers.crash_loop": ends()},
    "lost-paths": {
        "containers.path_missing": for_person("where the path was"),
        "containers.path_denied": ends(),
    },
    "many-processes": {"containers.pids_near_limit": shows("sleep infinity")},
    "memory-near-limit": {"containers.memory_near_limit": Hint(leaves=UP, person=COMPOSE_FILE)},
    "out-of-memory": {
        "containers.oom_killed": Hint(leaves=UP, person=COMPOSE_FILE, about="-greedy-"),
        "containers.stopped": Hint(about="-greedy-"),
    },
    "paused": {"containers.paused": ends()},
    "port-taken": {
        "containers.port_taken": shows("python", leaves="^docker start"),
        "containers.stopped": shows(r"LISTEN.*python", about="-barred-"),
    },
    "restarted-out-of-memory": {
        "containers.oom_killed": Hint(leaves=UP, person=COMPOSE_FILE, about="-risen-"),
    },
    "slow-start": {"containers.starting_long": Hint()},
    "stopped-service": {"containers.stopped": shows("file_watcher", about="file_watcher")},
    "throttled": {"containers.cpu_throttled": Hint(leaves=UP, person=COMPOSE_FILE)},
    "unhealthy": {"containers.unhealthy": shows(r'"ExitCode": ?1')},
    "worker-out-of-memory": {
        "containers.oom_killed": Hint(leaves=UP, person=COMPOSE_FILE, about="-forgetful-"),
    },
}

NETWORK = {
    "answer-overdue": {"network.path_http_timeout": ends()},
    "target-paused": {"network.path_paused": ends()},
    # The last command is for a failure of the engine.
    "dns-broken": {"network.path_dns": Hint(fixes=True, shows=(r"127\.0\.0\.9",), leaves="^journalctl")},
    "network-cut": {
        "network.not_on_common_network": ends(),
        "network.published_port_not_answering": ends(),
    },
    "network-unused": {"network.unused_network": Hint()},
    "packets-dropped": {"network.path_timeout": shows(r"--dport 5672 .*DROP")},
    "packets-rejected": {
        "network.path_no_route": shows("icmp-host-unreachable"),
        "network.published_port_not_answering": Hint(),
    },
    "port-refusing": {
        "network.path_refused": shows("tcp-reset"),
        "network.published_port_not_answering": Hint(),
    },
    "published-port-dead": {"network.published_port_not_answering": shows("^8000/tcp -> ")},
    "published-port-dropped": {"network.published_port_dropped": shows("DROP")},
    "published-port-dropped-by-nft": {"network.published_port_dropped": shows("drop")},
    "subnet-overlap": {"network.subnet_overlap": shows("/28 dev lo")},
}

FILE_WATCHING = {
    "directory-closed": {"file_watching.directory_unreadable": for_person("who may read the library")},
    "directory-gone": {"file_watching.directory_missing": for_person("where the directory is")},
    "directory-replaced": {
        "file_watching.directory_replaced": Hint(person="when the watcher may be restarted", leaves="^docker restart")
    },
    "directory-watched-twice": {"file_watching.duplicate_watchers": for_person("which watcher is the right one")},
    "events-pile-up": {"file_watching.queue_overflow_risk": ends()},
    "instances-exhausted": {"file_watching.instances_used": Hint()},
    "limit-raised-by-hand": {"file_watching.limits_not_persisted": Hint()},
    "new-directories-not-watched": {
        "file_watching.subdirectories_not_watched": for_person("when the watcher may be restarted")
    },
    "sysctl-files-disagree": {
        "file_watching.limit_overridden_by_file": for_person("which of the files is right"),
        "file_watching.broken_sysctl_file": for_person("what the line should say"),
    },
    "watcher-disconnected": {
        # The password in the file is right, and that of the broker is not.
        "file_watching.watcher_not_connected_to_broker": shows("lost the broker", leaves="^docker compose")
    },
    "watcher-restarting": {"file_watching.watcher_restarting": shows("EMFILE|inotify instance limit")},
    "watcher-stopped": {"file_watching.watcher_not_running": ends()},
    "watches-exhausted": {
        "file_watching.watches_used": for_person("when the watcher may be restarted"),
        "file_watching.watches_would_not_fit": Hint(),
    },
}

SERVICE_HEALTH = {
    "api-paused": {"service_health.not_answering": ends()},
    "api-slow": {"service_health.slow": shows(r"\b[1-9]\.\d{6}$")},
    "api-stopped": {"service_health.unreachable": ends()},
    "api-without-database": {"service_health.wrong_status": shows("503", "(?i)not permitted to log in")},
    "api-wrong-answer": {"service_health.wrong_body": shows("Track 1")},
}

HOST_RESOURCES = {
    "cpu-hog": {
        "host_resources.cpu_saturated": Hint(person=CODE, shows=("sh -c",)),
        "host_resources.cpu_hog": Hint(person=CODE, shows=("sh -c",), about="transcoder"),
    },
    "deleted-file-open": {
        "host_resources.deleted_open_files": Hint(fixes=True, about="spooler"),
        "host_resources.file_system_full": Hint(about="spooler", fixes=True),
    },
    "full-temporary-directory": {
        "host_resources.file_system_full": Hint(
            person="which of its files are needed", shows=(r"/tmp/leftover\.wav",), about="decoder"
        )
    },
    "repeated-oom-kills": {"host_resources.oom_kill": shows("(?i)out of memory|oom-kill")},
    "zombies": {"host_resources.zombies": ends()},
}

LOGS = {
    "errors-burst": {"logs.error_burst": shows("cannot decode /music/")},
    "log-driver-none": {"logs.unreadable": for_person(COMPOSE_FILE)},
    "secrets-in-log": {"logs.error_burst": shows("request failed", about="gossiping")},
    "traceback-flood": {
        "logs.error_burst": shows("too many clients", about="tracing"),
        "logs.known_signature": Hint(person=CAUSE, about="tracing"),
    },
    "unreadable-bytes": {"logs.error_burst": shows("broken", about="garbling")},
}

MESSAGE_QUEUE = {
    "blocked-publisher": {
        "message_queue.blocked_connections": shows("(?i)memory"),
        "message_queue.memory_alarm": ends(),
    },
    "dead-letters": {"message_queue.dead_letters": for_person(CODE)},
    "deleted-queue": {"message_queue.missing_queue": ends()},
    "disk-alarm": {"message_queue.disk_alarm": for_person(REPAIR)},
    "disk-nearly-full": {"message_queue.disk_free_near_limit": for_person(REPAIR)},
    "frozen-broker": {"message_queue.unreachable": shows("beam.smp")},
    "growing-queue": {"message_queue.growing": for_person(CODE)},
    "hoarding-consumer": {"message_queue.unacked": for_person(CODE)},
    "leaked-channels": {"message_queue.channel_leak": for_person(CLIENT)},
    "lost-dead-letters": {"message_queue.dead_letters_lost": for_person(CODE)},
    "lost-node": {
        "message_queue.node_down": for_person(REPAIR),
        "message_queue.queue_down": for_person(REPAIR),
        "message_queue.queue_members": for_person(REPAIR),
    },
    "management-off": {
        # The log of a server in a container is that of the container.
        "message_queue.management_unreachable": Hint(fixes=True, leaves="^tail ")
    },
    "many-connections": {
        "message_queue.file_descriptors": shows("tracktion"),
        "message_queue.erlang_processes": shows("tracktion"),
    },
    "memory-alarm": {"message_queue.memory_alarm": ends()},
    "memory-nearly-full": {"message_queue.memory_near_watermark": Hint(person=CLIENT)},
    "old-messages": {"message_queue.head_message_age": for_person(CLIENT)},
    "orphaned-queue": {
        "message_queue.no_consumer": for_person(CLIENT),
        "message_queue.backlog": for_person(CLIENT),
    },
    "partitioned-cluster": {"message_queue.partition": for_person("which partition to keep")},
    "poison-message": {"message_queue.redelivery_loop": for_person(CODE)},
    "queue-without-consumer": {
        "message_queue.no_consumer": Hint(
            about="audio.analysis", leaves="^docker start", person="when it may start again"
        )
    },
    "rejected-messages": {"message_queue.dead_letters": for_person(CODE)},
    "slow-consumer": {"message_queue.slow_drain": for_person(CLIENT)},
    "small-container": {"message_queue.memory_watermark_above_limit": ends()},
    "statistics-off": {"message_queue.statistics_off": for_person(CONFIGURATION)},
    "stuck-consumer": {
        "message_queue.stuck_consumer": for_person(CLIENT),
        "message_queue.ack_timeout_risk": for_person(CODE),
    },
    "unbound-exchange": {
        "message_queue.exchange_without_binding": for_person(CLIENT),
        "message_queue.unroutable": for_person(CLIENT),
    },
    "vhost-down": {
        "message_queue.vhost_down": Hint(fixes=True, repair=REMOVED),
        "message_queue.queue_down": Hint(fixes=True),
    },
}

BY_AREA = {
    "audio_processing": AUDIO_PROCESSING,
    "cache": CACHE,
    "containers": CONTAINERS,
    "database": DATABASE,
    "file_watching": FILE_WATCHING,
    "host_resources": HOST_RESOURCES,
    "logs": LOGS,
    "message_queue": MESSAGE_QUEUE,
    "network": NETWORK,
    "service_health": SERVICE_HEALTH,
}
