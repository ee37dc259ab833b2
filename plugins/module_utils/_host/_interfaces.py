# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors, drops and rates of the network interfaces. Private to this collection."""

from __future__ import annotations

import os
from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context, read
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import readable
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Field -> column of /proc/net/dev after the name.
COLUMNS = {
    "received_bytes": 0,
    "received_packets": 1,
    "receive_errors": 2,
    "receive_drops": 3,
    "sent_bytes": 8,
    "sent_packets": 9,
    "send_errors": 10,
    "send_drops": 11,
    "carrier_losses": 14,
}
FAULTS = ("receive_errors", "receive_drops", "send_errors", "send_drops")


class Sample(NamedTuple):
    """Counters by interface, and those of TCP (TcpExt in /proc/net/netstat)."""

    interfaces: dict[str, dict[str, int]]
    tcp: dict[str, int]


def sample(context: Context) -> Sample:
    """Return the counters of this network namespace now. Raises OSError."""
    try:
        tcp = parse_netstat(context.text("net/netstat"))
    except OSError:
        tcp = {}
    found = parse(context.text("net/dev"))
    for name, counters in found.items():
        # The links of containers come and go with them.
        changes = _number(context.sys, name, "carrier_changes") if has_hardware(context.sys, name) else None
        if changes is not None:
            counters["carrier_changes"] = changes
    return Sample(found, tcp)


def parse(text: str) -> dict[str, dict[str, int]]:
    """Return the counters of each interface in the text of /proc/net/dev."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _colon, rest = line.rpartition(":")
        words = rest.split()
        if len(words) >= 16:
            found[name.strip()] = {field: int(words[column]) for field, column in COLUMNS.items()}
    return found


def parse_netstat(text: str) -> dict[str, int]:
    """Return the counters TcpExt in the text of /proc/net/netstat."""
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("TcpExt:")]
    return {name: int(value) for name, value in zip(*lines)} if len(lines) == 2 else {}


def describe(context: Context, first: Sample, second: Sample) -> Part:
    """Return the parts ``interfaces``, those with new faults and the most traffic first, and ``interfaces_total``."""
    found = [
        {"name": readable(os.fsencode(name)), **rates(first.interfaces.get(name), now, context.seconds),
         **link(context.sys, name)}
        for name, now in second.interfaces.items()
    ]  # fmt: skip
    found.sort(key=lambda item: (-(item["new_faults"] or 0), -(item["bytes_per_second"] or 0)))
    return {"interfaces": found[: context.top], "interfaces_total": len(found)}


def rates(before: dict[str, int] | None, now: dict[str, int], seconds: float) -> Part:
    """Return the counters since boot, what they grew by (``new_*``), and rates; null if a counter was reset."""
    earlier = before or {}
    found: Part = {name: now[name] for name in (*FAULTS, "carrier_losses")}
    found["carrier_changes"] = now.get("carrier_changes")
    for name in (*FAULTS, "carrier_changes"):
        found["new_" + name] = _rates.growth(earlier, now, name)
    grown = [found["new_" + name] for name in FAULTS]
    found["new_faults"] = None if None in grown else sum(grown)
    packets = [_rates.growth(earlier, now, name) for name in ("received_packets", "sent_packets")]
    found["new_packets"] = None if None in packets else sum(number or 0 for number in packets)
    for name in ("received_bytes", "sent_bytes"):
        found[name + "_per_second"] = _rates.per_second(earlier.get(name), now[name], seconds)
    both = [found["received_bytes_per_second"], found["sent_bytes_per_second"]]
    found["bytes_per_second"] = None if None in both else round(sum(both), 4)
    handled = None if found["new_packets"] is None else found["new_packets"] + (found["new_faults"] or 0)
    found["new_fault_ratio"] = 0.0 if found["new_faults"] == 0 else _rates.ratio(found["new_faults"], handled)
    return found


def has_hardware(sys: str, name: str) -> bool:
    """Return whether an interface has a device, unlike a bridge, a tunnel or the link of a container."""
    return os.path.exists(os.path.join(sys, "class/net", name, "device"))


def link(sys: str, name: str) -> Part:
    """Return ``state``, ``carrier`` (null if the interface is down), ``virtual`` and ``bits_per_second``, if known."""
    folder = os.path.join(sys, "class/net", name)
    try:
        state: str | None = read(os.path.join(folder, "operstate")).strip()
    except OSError:
        state = None
    carrier, speed = _number(sys, name, "carrier"), _number(sys, name, "speed")
    return {
        "state": state,
        "carrier": None if carrier is None else carrier == 1,
        "virtual": not has_hardware(sys, name) if os.path.exists(folder) else None,
        # In Mbit/s; -1 if it is not known.
        "bits_per_second": speed * 1000000 if speed is not None and speed > 0 else None,
    }


def _number(sys: str, name: str, field: str) -> int | None:
    try:
        return int(read(os.path.join(sys, "class/net", name, field)))
    except (OSError, ValueError):
        return None
