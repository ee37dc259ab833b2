# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A single Redis server as the faults and the tests of the cache see it, and one way to measure and judge it."""

from __future__ import annotations

import importlib

import redis
import yaml
from jinja2 import Environment

from ansible_collections.tracktion.ops.plugins.module_utils import _redis
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks, _judge
from tests.lab.engine import docker

MODULE_UTILS = "ansible_collections.tracktion.ops.plugins.module_utils."
AREA = _areas.find(["cache"])[0]
CHECKS = _checks.load(AREA)
DEFAULTS = yaml.safe_load(AREA.file("defaults", "main.yml").read_text())
PROBES = yaml.safe_load(AREA.probes_file.read_text())["cache_probes"]


class Lab:
    """What a fault asks of the stack, answered by one server."""

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


def options(name, server, **changed):
    """The options of a measuring module for this server."""
    spec = importlib.import_module(MODULE_UTILS + "_" + name).ARGUMENT_SPEC
    chosen = {option: about.get("default") for option, about in spec.items()}
    chosen.update(login_host=server.host, login_port=server.port, login_password=server.password)
    return {**chosen, **changed}


def measure(name, server, **changed):
    """Measure over a connection of its own."""
    forget_connections()
    return importlib.import_module(MODULE_UTILS + "_" + name).measure(options(name, server, **changed))


def forget_connections():
    for client in _redis._kept.values():
        if isinstance(client, _redis.Client):
            client.close()
    _redis._kept.clear()


def findings(server, **settings):
    """What the role says of a server: its probes run with its variables, judged by its checks."""
    values = {
        **DEFAULTS,
        "cache_login_host": server.host,
        "cache_login_port": server.port,
        "cache_login_password": server.password or "",
        "tracktion_sample_seconds": 0.3,
        **settings,
    }
    jinja = Environment()
    measurement = {}
    forget_connections()
    for name, probe in PROBES.items():
        utils = importlib.import_module(MODULE_UTILS + "_" + probe["module"])
        chosen = {option: about.get("default") for option, about in utils.ARGUMENT_SPEC.items()}
        for option, text in probe["options"].items():
            # The templates of the probes are single expressions: this keeps their types, as Ansible does.
            chosen[option] = jinja.compile_expression(text.strip("{} "))(**values)
        measurement[name] = utils.measure(chosen)
    found, _counts = _judge.judge("cache", CHECKS, "lab", {"measurement": measurement, "error": None}, values)
    return found
