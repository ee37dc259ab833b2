# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A single Redis server for the faults and the tests of the cache."""

from __future__ import annotations

import contextlib

import redis

from tests.integration.areas import diagnose
from tests.integration.modules import run_module
from tests.lab import faults
from tests.lab.engine import docker
from tests.lab.servers import redis_server

ARGUMENTS = ("--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru", "--enable-debug-command", "yes")
# Adds up a page of keys in the server: redis-py needs ten times as long for a reply per key.
PAGE = """
local page, sums, rows = redis.call("SCAN", ARGV[1], "COUNT", 1000), {}, {}
for _, name in ipairs(page[2]) do
    local prefix, kind = string.match(name, "^([^:]*):") or "", redis.call("TYPE", name).ok
    local row = sums[prefix .. ":" .. kind]
    if not row then
        row = {prefix, kind, 0, 0, 0}
        sums[prefix .. ":" .. kind] = row
        rows[#rows + 1] = row
    end
    row[3], row[4] = row[3] + 1, row[4] + redis.call("MEMORY", "USAGE", name)
    if redis.call("PTTL", name) == -1 then row[5] = row[5] + 1 end
end
return {page[1], rows}
"""


class Cache:
    """One server with the interface of the stack that faults use, and methods to measure and evaluate it."""

    def __init__(self, server):
        self.server = server

    def redis(self, **options):
        defaults = {"host": self.server.host, "port": self.server.port, "password": self.server.password}
        return redis.Redis(**{**defaults, "socket_timeout": 10, **options})

    def exec(self, _service, *command):
        return self.server.exec(*command)

    def container(self, _service):
        return self.server.name

    def docker(self, *arguments):
        return docker(*arguments)

    def fault(self, name):
        return faults.injected(name, self)

    def login(self, **options):
        found = {
            "login_host": self.server.host,
            "login_port": self.server.port,
            "login_password": self.server.password,
            **options,
        }
        return {name: value for name, value in found.items() if value is not None}

    def memory(self, check=False, diff=False, **options):
        """Return the result of the module redis_memory."""
        return run_module("redis_memory", self.login(**options), check=check, diff=diff)

    def health(self, **options):
        """Return the result of the module redis_health_info."""
        return run_module("redis_health_info", self.login(**{"sample_seconds": 0.1, **options}))

    def findings(self, **settings):
        """Return the findings of the role by the id of the check."""
        settings = {"tracktion_sample_seconds": 0.2, **settings}
        settings.update(
            {"cache_" + name: value for name, value in self.login().items() if "cache_" + name not in settings}
        )
        return diagnose("cache", settings)

    @contextlib.contextmanager
    def user(self, name, *rules):
        """Create a user with these ACL rules for the context. Yield its login options."""
        client = self.redis()
        client.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules)
        try:
            yield {"login_user": name, "login_password": "secret"}
        finally:
            client.acl_deluser(name)

    def truth(self, databases=(0,)):
        """Return the sums of the server: {(database, prefix, type): [keys, bytes, keys without a time to live]}."""
        sums = {}
        for database in databases:
            client, cursor = self.redis(db=database), None
            while cursor != b"0":
                cursor, rows = client.eval(PAGE, 0, cursor or 0)
                for prefix, kind, *numbers in rows:
                    key = (database, prefix.decode(), kind.decode())
                    sums[key] = [sum(pair) for pair in zip(sums.get(key, (0, 0, 0)), numbers, strict=True)]
        return sums


@contextlib.contextmanager
def cache(suite, *arguments, **options):
    with redis_server(suite, *ARGUMENTS, *arguments, **options) as server:
        yield Cache(server)
