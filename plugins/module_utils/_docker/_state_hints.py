# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The next step for a container that does not work, by its state. Private to this collection."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

# Microseconds of a period, unless the container has another one.
CPU_PERIOD = 100000


def hint(facts: Mapping[str, Any], engine: str = "docker", compose_options: Sequence[str] = ()) -> str | None:
    """Return what to do about a container; null for one that runs and has started.

    ``facts`` has ``name, service, state, error_message, looping, starting``; ``engine`` is the start
    of a command to the engine.
    """
    name, state = shell_quote(facts["name"]), facts["state"]
    read, start = "`%s logs --tail 50 %s`" % (engine, name), "`%s start %s`" % (engine, name)
    if state in ("dead", "removing"):
        again = "recreate it with the command that created it"
        if facts["service"] and compose_options:
            again = "create it again: `%s`" % _engine.compose_up(compose_options, facts["service"])
        return "Remove the rest of the container: `%s rm --force %s`. Then %s" % (engine, name, again)
    if state == "paused":
        return "Resume the container, unless it is paused on purpose: `%s unpause %s`" % (engine, name)
    if facts["looping"]:
        then = "then start it: %s" % start if state == "exited" else "the engine starts it again by itself"
        return "Read why its program ends again and again: %s. A restart does not help: correct that, %s" % (read, then)
    if state in ("created", "exited") and facts["error_message"]:
        return "Remove the reason why the engine could not start it (%s), then start it: %s" % (
            facts["error_message"].replace("`", "'"),
            start,
        )
    if state == "created":
        return "Start the container, which has never run: %s. If it does not start, the command shows why" % start
    if state == "exited":
        return "Read why it ended: %s. Then start it: %s" % (read, start)
    if state == "restarting":
        return "Read why it ended: %s. The engine starts it again by itself" % read
    if facts["starting"]:
        return "Wait until it has started, and measure again. What it does: %s" % read
    return None


def of_cpu(name: str, wanted: Mapping[str, Any], engine: str = "docker") -> str:
    """Return how to raise the CPU limit of a container to twice its value; ``wanted`` is its HostConfig."""
    nano, quota, period = (wanted.get(field) or 0 for field in ("NanoCpus", "CpuQuota", "CpuPeriod"))
    if quota > 0:
        option, key = "--cpu-quota %d" % max(quota * 2, period or CPU_PERIOD), "cpu_quota"
    elif nano > 0:
        option, key = "--cpus %.4g" % max(nano * 2 / 1e9, 1), "cpus"
    else:
        return "Look for the control group above that of the container that has the limit: `systemd-cgtop -n 1`"
    command = "%s update %s %s" % (engine, option, shell_quote(name))
    return "Raise the CPU limit of its container, now (`%s`) and in the compose file (%s)" % (command, key)
