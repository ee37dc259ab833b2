# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights of the area message_queue."""

from __future__ import annotations

from tests.rights import Right

AREA = "message_queue"
NODES = (
    "node_down",
    "partition",
    "memory_alarm",
    "memory_near_watermark",
    "memory_watermark_above_limit",
    "disk_alarm",
    "disk_free_near_limit",
    "file_descriptors",
    "sockets",
    "erlang_processes",
)
# Checks of vhosts in which the user needs permissions.
IN_VHOSTS = (
    "queue_down",
    "queue_members",
    "no_consumer",
    "backlog",
    "unacked",
    "growing",
    "overflow",
    "many_without_consumer",
    "slow_drain",
    "head_message_age",
    "stuck_consumer",
    "ack_timeout_risk",
    "redelivery_loop",
    "dead_letters",
    "dead_letters_lost",
    "dead_letter_cycle",
    "exchange_without_binding",
)
WHOLE_BROKER = (
    *NODES,
    "vhost_down",
    "vhost_hidden",
    "blocked_connections",
    "channel_leak",
    "limit_reached",
    "queue_count",
    "unroutable",
)

MONITORING = Right(AREA, "monitoring", "rabbitmqctl set_user_tags", (*WHOLE_BROKER, *IN_VHOSTS))
ANY_TAG = Right(AREA, "any tag", "rabbitmqctl set_user_tags", (*WHOLE_BROKER, *IN_VHOSTS, "statistics_off"))
PERMISSIONS = Right(
    AREA,
    "permissions",
    "rabbitmqctl set_permissions",
    (*IN_VHOSTS, "missing_queue", "too_few_consumers"),
)
# A user without any tag also lacks the tag monitoring.
RIGHTS = [MONITORING, PERMISSIONS]
