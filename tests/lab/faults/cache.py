# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong in Redis."""

from __future__ import annotations

import contextlib

from ..shell import wait_until
from . import fault


@contextlib.contextmanager
def settings_kept(client, *names: str):
    """Put settings back at the end to what they were at the beginning."""
    before = {name: client.config_get(name)[name] for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)


def remove_keys(client, pattern: str) -> None:
    """Remove keys in batches, without holding the server up."""
    batch = list(client.scan_iter(pattern, count=1000))
    for start in range(0, len(batch), 1000):
        client.unlink(*batch[start : start + 1000])


@fault(fires=["cache.memory", "cache.writes_refused"])
def memory_full(lab):
    """Memory is used up to maxmemory, and the policy evicts nothing: every write is refused."""
    client = lab.redis()
    with settings_kept(client, "maxmemory", "maxmemory-policy"):
        try:
            for number in range(256):
                client.set(f"lab:fill:{number}", b"x" * 65536)
            client.config_set("maxmemory-policy", "noeviction")
            # A little less than is used: what clients' buffers take and give must not let a write through.
            client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 0.99))
            yield
        finally:
            remove_keys(client, "lab:fill:*")


@fault(fires=["cache.eviction_policy"])
def no_eviction_volatile(lab):
    """The policy evicts only keys that expire, and most keys never do."""
    client = lab.redis()
    with settings_kept(client, "maxmemory-policy"):
        client.config_set("maxmemory-policy", "volatile-lru")
        client.mset({f"lab:eternal:{number}": "x" * 100 for number in range(2000)})
        yield
        remove_keys(client, "lab:eternal:*")


@fault(fires=["cache.save_failed"])
def save_failing(lab):
    """Redis cannot write its snapshot, as with a full or read-only disk, and refuses writes for it."""
    client = lab.redis()

    def last_save(outcome: str) -> bool:
        persistence = client.info("persistence")
        return not persistence["rdb_bgsave_in_progress"] and persistence["rdb_last_bgsave_status"] == outcome

    try:
        lab.exec("redis", "chown", "root:root", "/var/lib/redis")
        client.bgsave()
        wait_until(lambda: last_save("err"), "a failed save", 20)
        yield
    finally:
        lab.exec("redis", "chown", "redis:redis", "/var/lib/redis")
    # Redis tries again by itself, and two saves at once are an error.
    client.bgsave(schedule=True)
    wait_until(lambda: last_save("ok"), "a successful save", 20)


@fault(fires=["cache.slow_commands"])
def slow_commands(lab):
    """Scripts have each held the server up for tenths of a second."""
    client = lab.redis()
    for _count in range(5):
        client.eval("local n = 0 for i = 1, 2e7 do n = n + i end return n", 0)
    yield
    client.slowlog_reset()
