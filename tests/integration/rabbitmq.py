# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A single RabbitMQ server for the faults and the tests of the message queue."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import urllib.error
import urllib.request

import pika

from ansible.module_utils.testing import patch_module_args
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq, _rabbitmq_amqp
from ansible_collections.tracktion.ops.plugins.modules import rabbitmq_node_info, rabbitmq_queue_state
from tests.integration import areas
from tests.lab import faults
from tests.lab.engine import docker
from tests.lab.servers import rabbitmq_server

# The limit is unknown if another broker of these tests was started at the same time.
MEMORY_LIMIT = 2**40
MODULES = {"rabbitmq_node_info": rabbitmq_node_info, "rabbitmq_queue_state": rabbitmq_queue_state}


class Broker:
    """What a fault needs of the stack, provided by one server."""

    def __init__(self, server):
        self.server = server

    def amqp(self, user=None, password=None, **options):
        credentials = pika.PlainCredentials(user or self.server.user, password or self.server.password)
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                **{
                    "host": self.server.host,
                    "port": self.server.port,
                    "credentials": credentials,
                    "socket_timeout": 5,
                    "client_properties": {"connection_name": "lab"},
                    **options,
                }
            )
        )

    def rabbitmq_api(self, method, path, body=None):
        request = urllib.request.Request(
            "http://%s:%d/api%s" % (self.server.host, self.server.management_port, path),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        login = base64.b64encode(("%s:%s" % (self.server.user, self.server.password)).encode()).decode()
        request.add_header("Authorization", "Basic " + login)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=15) as reply:
            text = reply.read()
        return json.loads(text) if text.strip() else None

    def exec(self, _service, *command, timeout=60):
        return self.server.exec(*command, timeout=timeout)

    def container(self, _service):
        return self.server.name

    def docker(self, *arguments):
        return docker(*arguments)

    def fault(self, name):
        return faults.injected(name, self)

    def user(self, name, tags="", permissions=None):
        """Create a user whose password is its name; ``permissions`` maps vhosts to a pattern for all three."""
        self.rabbitmq_api("PUT", "/users/%s" % name, {"password": name, "tags": tags})
        for vhost, pattern in (permissions or {}).items():
            allowed = dict.fromkeys(("configure", "write", "read"), pattern)
            self.rabbitmq_api("PUT", "/permissions/%s/%s" % (vhost.replace("/", "%2F"), name), allowed)

    def login(self, **options):
        """Return the connection options of both modules."""
        return {
            "login_host": self.server.host,
            "login_port": self.server.management_port,
            "amqp_port": self.server.port,
            "login_user": self.server.user,
            "login_password": self.server.password,
            **options,
        }

    def settings(self, **settings):
        """Return the connection variables of the role; a single broker has none of the stack's queues."""
        return {
            "message_queue_login_host": self.server.host,
            "message_queue_management_port": self.server.management_port,
            "message_queue_amqp_port": self.server.port,
            "message_queue_login_user": self.server.user,
            "message_queue_login_password": self.server.password,
            "message_queue_expected_queues": [],
            "message_queue_memory_limit_bytes": MEMORY_LIMIT,
            **settings,
        }

    def diagnose(self, **settings):
        return areas.diagnose("message_queue", self.settings(**settings))

    def run(self, module="rabbitmq_queue_state", check=False, diff=False, **options):
        """Run a module in this process over new connections and return its result, also of a failure."""
        forget_connections()
        if module == "rabbitmq_node_info":
            options.setdefault("memory_limit_bytes", MEMORY_LIMIT)
        arguments = {**self.login(**options), "_ansible_check_mode": check, "_ansible_diff": diff}
        output = io.StringIO()
        with patch_module_args(arguments), contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            MODULES[module].main()
        return json.loads(output.getvalue())

    def ready(self, queue, vhost="/"):
        """Return the number of ready messages that the broker reports."""
        with self.amqp(virtual_host=vhost) as connection:
            return connection.channel().queue_declare(queue, passive=True).method.message_count


def forget_connections():
    """Close and forget shared connections: a process measures once, but tests measure many times in one."""
    for known in _rabbitmq._sessions.values():
        if isinstance(known, _rabbitmq.Management):
            known.close()
    _rabbitmq._sessions.clear()
    _rabbitmq_amqp._failures.clear()


@contextlib.contextmanager
def broker(suite, **settings):
    """A broker that updates its statistics every second instead of every five."""
    with rabbitmq_server(suite, owner="message_queue", collect_statistics_interval=1000, **settings) as server:
        yield Broker(server)
