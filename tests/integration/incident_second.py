# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The second set of scenarios. The causes were written down before any of them was run, and are not changed since."""

from __future__ import annotations

from tests.integration import incident_breaks as breaks
from tests.integration.incident_scenarios import (
    ANALYSIS,
    API,
    DOWN,
    LATE,
    LOCKS,
    MEMORY_ALARM,
    Cause,
    Scenario,
    full_scratch,
    messages,
    stopped,
)

# The inventory of the lab accepts full file systems, as other tests fill theirs.
DISKS = {
    "host_resources_space_info": 0.9,
    "host_resources_space_warning": 0.95,
    "host_resources_space_critical": 0.99,
    "host_resources_inodes_floor": 10,
}
SUPERUSER = {"database_login_user": "postgres"}
FULL = ("host_resources.file_system_full", "containers.filesystem_full")
CACHE_DISK = Cause(FULL, "redis", (*FULL, "cache.", "logs.", "service_health.", "containers.unhealthy",
                                   "message_queue.redelivery_loop",
                                   "network.path_http"))  # fmt: skip
BROKER_DISK = Cause(FULL, "rabbitmq", (*FULL, "message_queue.", "logs."))
CUT = Cause(("network.not_on_common_network",), "tracklist", (*DOWN, "containers.compose_drift"))
WATCHES = Cause(
    ("file_watching.watches_used",), "",
    ("file_watching.", "containers.", "logs.", "service_health.", "network.", "message_queue."),
)  # fmt: skip

SECOND = (
    Scenario("disk of the cache full", "chain", (), (CACHE_DISK,), (breaks.full_cache_disk,), wait=2, variables=DISKS),
    Scenario("disk of the broker full", "chain", (), (BROKER_DISK,), (breaks.full_broker_disk,), variables=DISKS),
    Scenario(
        "disk of the database full",
        "chain",
        (),
        (
            Cause(
                FULL,
                "postgres",
                (*FULL, *DOWN, "database.", "message_queue.redelivery_loop", "message_queue.unacked"),
            ),
        ),
        (breaks.full_database_disk,),
        wait=2,
        variables=DISKS,
    ),
    Scenario(
        "disk of the cache without inodes",
        "chain",
        (),
        (
            Cause(
                ("host_resources.inodes_used", "containers.filesystem_full"),
                "redis",
                (*CACHE_DISK.follows, "host_resources.inodes_used"),
            ),
        ),
        (breaks.cache_disk_without_inodes,),
        variables=DISKS,
    ),
    Scenario(
        "library mounted from a mistyped path",
        "chain",
        (),
        (Cause(("containers.path_empty", "containers.path_missing"), "musik", ("audio_processing.", "logs.")),),
        (breaks.mistyped_mount,),
        wait=2,
    ),
    Scenario(
        "library closed for the services",
        "chain",
        ("directory-closed",),
        (Cause(("containers.path_denied",), "music", ("audio_processing.", "file_watching.", "logs.")),),
        wait=4,
    ),
    Scenario("album not seen by the watcher", "chain", (), (WATCHES,), (breaks.blind_watcher,), wait=2),
    Scenario(
        "watcher loops without instances",
        "chain",
        ("watcher-restarting",),
        (
            Cause(
                ("file_watching.instances_used",),
                "",
                (*WATCHES.follows,),
            ),
        ),
        wait=8,
    ),
    Scenario(
        "clock late, certificate just renewed",
        "single",
        (),
        (Cause(("host.clock_skew",), "", ("service_health.certificate_refused",)),),
        (breaks.late_clock,),
        wait=0,
        variables=breaks.CLOCK,
    ),
    Scenario(
        "clock late, certificate expired last week",
        "decoy",
        (),
        (Cause(("service_health.certificate_refused",), "catalogue"), Cause(("host.clock_skew",))),
        (breaks.expired_certificate,),
        wait=0,
        variables=breaks.CLOCK,
    ),
    Scenario(
        "consumer without names",
        "chain",
        (),
        (
            Cause(
                ("network.path_dns", "network.container_resolver_broken"),
                "analysis_service",
                (*DOWN, "network.container_resolver_broken"),
            ),
        ),
        (breaks.consumer_without_names,),
        wait=30,
    ),
    Scenario("api cut off from the network", "chain", (), (CUT,), (breaks.api_cut_off,), wait=25),
    Scenario(
        "leak takes all connections",
        "chain",
        (),
        (Cause(("database.connections_used",), "", (*DOWN, *LOCKS, "message_queue.redelivery_loop")),),
        (breaks.leak_takes_all_connections,),
        wait=25,
        variables=SUPERUSER,
    ),
    Scenario(
        "prepared transaction blocks the api",
        "chain",
        (),
        (
            Cause(
                ("database.prepared_transaction_old", "database.blocked_by_server"),
                "",
                (*LOCKS, *DOWN, "database.vacuum_held", "message_queue.stuck_consumer", "message_queue.unacked"),
            ),
        ),
        (breaks.prepared_lock,),
        wait=10,
        variables={**LATE, "database_prepared_transaction_warning": 1},
    ),
    Scenario(
        "disk of the backups full",
        "single",
        (),
        (Cause(("host_resources.file_system_full",), breaks.BACKUPS, ("recovery.",)),),
        (breaks.full_backup_disk,),
        wait=0,
        variables={**DISKS, "recovery_directory": breaks.BACKUPS + "/backups", "recovery_age_warning_hours": 0.0001},
    ),
    Scenario(
        "disk of the cache full, api stopped",
        "double",
        ("api-stopped",),
        (CACHE_DISK, API),
        (breaks.full_cache_disk,),
        wait=2,
        variables=DISKS,
    ),
    Scenario(
        "disk of the cache full, another service fills its own",
        "decoy",
        (),
        (CACHE_DISK, Cause(FULL, "writer", ("logs.", *FULL))),
        (breaks.full_cache_disk, full_scratch),
        wait=4,
        variables=DISKS,
    ),
    Scenario(
        "memory alarm, consumer stopped",
        "decoy",
        ("blocked-publisher",),
        (MEMORY_ALARM, ANALYSIS),
        (stopped("analysis_service"),),
        wait=10,
    ),
    Scenario(
        "api slow, service of that name stopped in another project",
        "decoy",
        ("api-slow",),
        # (The other project was not diagnosed when this was first recorded: its stopped service is the second cause.)
        (
            Cause(("service_health.slow",), "tracklist_service", ("logs.", "network.")),
            Cause(("containers.stopped",), "x-tracklist_service"),
        ),
        (breaks.other_project,),
        variables={"tracktion_compose_project": None},
    ),
    Scenario(
        "names broken for the watcher, api stopped",
        "decoy",
        ("dns-broken", "api-stopped"),
        (Cause(("network.path_dns", "network.container_resolver_broken"), "file_watcher", DOWN), API),
        wait=25,
    ),
    Scenario(
        "library mounted from a mistyped path, consumer stopped",
        "double",
        (),
        (Cause(("containers.path_empty", "containers.path_missing"), "musik", ("audio_processing.", "logs.")), API),
        (breaks.mistyped_mount, stopped("tracklist_service")),
        wait=4,
    ),
    Scenario(
        "services being created, requests wait",
        "decoy",
        (),
        (ANALYSIS,),
        (breaks.starting_stack, messages, stopped("analysis_service")),
        wait=10,
    ),
)
