# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A diagnosis and a plan, with -vvv and umask 000, write none of a hundred planted secrets anywhere."""

from __future__ import annotations

import base64
import collections
import contextlib
import json
import os
import re
import socket
import stat
import threading
from pathlib import Path

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas
from tests.integration.http_servers import serving
from tests.integration.playbooks import LOCAL, run_playbook
from tests.integration.test_secret_sources import VAULT_PASSWORD, Dumper, Unsafe, Vaulted, encrypted
from tests.lab import throwaway

LOG_LINES = (
    "ERROR password={}",
    "ERROR cannot connect to postgresql://u:{}@db:5432/x",
    "ERROR Authorization: Bearer {}",
    'ERROR {{"api_key": "{}"}}',
    "ERROR redis://:{}@cache:6379/0 refused",
    "ERROR GET https://host/path?token={}&x=y failed",
    "ERROR PGPASSWORD={} psql: failed",
    "ERROR client_secret={} is wrong",
)
VARIABLES = ("DATABASE_URL", "REDIS_PASSWORD", "API_KEY", "AWS_SECRET_ACCESS_KEY", "TOKEN")
SENTRY_SECONDS = 0.1


class Planted:
    """Secrets, each with the location where it was planted."""

    def __init__(self):
        self.locations = {}

    def __call__(self, location):
        secret = "planted%03dx%s" % (len(self.locations), os.urandom(6).hex())
        self.locations[secret] = location
        return secret

    def found_in(self, data):
        """Return the locations of the secrets that are in these bytes, in plain text or base64."""
        if not isinstance(data, bytes):
            data = data.encode("utf-8", "surrogateescape")
        words = re.findall(rb"planted\d{3}x[0-9a-f]{12}", data)
        for text in re.findall(rb"[A-Za-z0-9+/]{64,}={0,2}", data):
            for shift in range(4):
                part = text[shift:]
                words += re.findall(rb"planted\d{3}x[0-9a-f]{12}", base64.b64decode(part[: len(part) // 4 * 4]))
        return {self.locations[word.decode()] for word in words if word.decode() in self.locations}


class Sentry(threading.Thread):
    """Reads the process list, temporary files and the system log until the context ends."""

    def __init__(self, folders):
        super().__init__(daemon=True)
        self.folders = folders
        self.commands = set()
        self.readable = {}
        self.logged = []
        self.over = threading.Event()
        self.log = None

    def __enter__(self):
        # Modules log their arguments to syslog, if there is one.
        if not os.path.exists("/dev/log") and os.geteuid() == 0:
            self.log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.log.bind("/dev/log")
            self.log.settimeout(SENTRY_SECONDS)
            self.listener = threading.Thread(target=self.listen, daemon=True)
            self.listener.start()
        self.start()
        return self

    def __exit__(self, *_exc):
        self.over.set()
        self.join()
        if self.log:
            self.listener.join()
            self.log.close()
            os.unlink("/dev/log")

    def run(self):
        seen = collections.Counter()
        while not self.over.wait(SENTRY_SECONDS):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                # Long enough for a forked process to call exec.
                if seen[pid] < 10:
                    seen[pid] += 1
                    with contextlib.suppress(OSError):
                        self.commands.add(Path("/proc", pid, "cmdline").read_bytes())
            # Folders may be removed during the walk.
            with contextlib.suppress(OSError):
                for path in (path for folder in self.folders for path in folder.rglob("*")):
                    status = path.lstat()
                    version = (path, status.st_mtime_ns, status.st_size)
                    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077 and version not in self.readable:
                        self.readable[version] = path.read_bytes()

    def listen(self):
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError):
                self.logged.append(self.log.recv(1 << 20))


@pytest.fixture(scope="module")
def planted():
    return Planted()


@pytest.fixture(scope="module")
def stack(planted):
    """A container whose environment, labels and log hold secrets."""
    with throwaway.project("planted") as project:
        environment = {"%s_%d" % (name, number): planted("environment") for name in VARIABLES for number in range(8)}
        environment["LOG"] = "\n".join(line.format(planted("log: %s" % line)) for line in LOG_LINES)
        options = [word for name, value in environment.items() for word in ("--env", "%s=%s" % (name, value))]
        project.run(
            "analysis_service",
            "sh",
            "-c",
            'for _ in $(seq 30); do echo "$LOG"; done; sleep 600',
            options=tuple(options),
            labels={"com.example.password": planted("label")},
        )
        yield project


def endpoints(planted, port, count=7):
    """Endpoints with secrets in every option; the server repeats all of them in its answer."""
    return [
        {
            "name": "e%d" % number,
            # That of the service is a finding about what answers, those of the others about the answer.
            "service": None if number else "analysis_service",
            "url": "http://user:%s@127.0.0.1:%d/health" % (planted("endpoint: url"), port),
            "headers": {"Authorization": "Bearer %s" % planted("endpoint: header"), "X-Key": planted("endpoint: key")},
            "body": {"password": planted("endpoint: body")},
            "method": "POST",
        }
        for number in range(count)
    ]


def commands(planted, count=4):
    return [
        {
            "name": "c%d" % number,
            "service": "analysis_service",
            "argv": ["sh", "-c", "echo $PASSWORD; exit 1"],
            "environment": {"PASSWORD": planted("command: environment")},
        }
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def left(planted, stack, redis7, tmp_path_factory):
    """Everything that a diagnosis and a plan of all areas write: content by name."""
    site = tmp_path_factory.mktemp("planted")
    folders = {name: site / name for name in ("tmp", "local", "remote", "home", "reports")}
    for folder in folders.values():
        folder.mkdir(mode=0o700)

    def echo(_query):
        return 500, {}, "wrong: %s" % json.dumps(served.requests[-1])

    with serving({"/health": echo}) as served:
        passwords = ("database_login_password", "cache_login_password", "message_queue_login_password")
        everywhere = {
            "tracktion_compose_project": stack.name,
            "tracktion_sample_seconds": 0.1,
            "tracktion_areas": ["database", "cache", "message_queue"],
            "containers_expected_services": ["analysis_service"],
            "tracktion_state_dir": str(site / "state"),
            "recovery_superuser_password": planted("recovery_superuser_password, inventory"),
            "logs_minutes": 60,
            "logs_kernel_log": "",
            "network_check_resolver": False,
            "network_external_endpoints": [
                "http://u:%s@127.0.0.1:1/" % planted("external endpoint") for _number in range(4)
            ],
            "network_paths": [
                {"from": "analysis_service", "to": "http://u:%s@127.0.0.1:1/" % planted("network path")}
                for _number in range(4)
            ],
            # The port of Redis, which repeats nothing, and one without a server.
            "database_poolers": [
                {
                    "host": redis7.server.host,
                    "port": port,
                    "user": "stats",
                    "password": planted("pooler: password"),
                    "database": "tracktion",
                    "service_user": "tracktion",
                    "service_password": planted("pooler: service_password"),
                }
                for port in (redis7.server.port, 1)
            ],
            "service_health_endpoints": endpoints(planted, served.port),
            "service_health_commands": commands(planted),
        }
        hosts = {
            "plain": {name: planted("%s, plain" % name) for name in passwords},
            "vault": {name: Vaulted(encrypted(planted("%s, vault" % name))) for name in passwords},
            "environment": {name: "{{ lookup('ansible.builtin.env', '%s') }}" % name for name in passwords},
            "credential": {name: "{{ injected_%s }}" % name for name in passwords},
            # One host can log in.
            "right": {
                "tracktion_areas": [],
                "cache_login_host": redis7.server.host,
                "cache_login_port": redis7.server.port,
                "cache_login_password": redis7.server.password,
            },
        }
        planted.locations[redis7.server.password] = "the right password"
        inventory = site / "hosts.yml"
        hosts = {name: {**LOCAL, **own} for name, own in hosts.items()}
        inventory.write_text(yaml.dump({"all": {"hosts": hosts, "vars": everywhere}}, Dumper=Dumper))
        credential = site / "credential.yml"
        injected = {"injected_%s" % name: Unsafe(planted("%s, credential" % name)) for name in passwords}
        credential.write_text(yaml.dump(injected, Dumper=Dumper))
        (site / "vault-password").write_text(VAULT_PASSWORD)
        environment = {
            **{name: planted("%s, environment" % name) for name in passwords},
            "TMPDIR": str(folders["tmp"]),
            "ANSIBLE_LOCAL_TEMP": str(folders["local"]),
            "ANSIBLE_REMOTE_TEMP": str(folders["remote"]),
            "ANSIBLE_HOME": str(folders["home"]),
        }
        with Sentry(list(folders.values())) as sentry:
            # It measures and reports like a diagnosis, and plans.
            run = run_playbook(
                "remediate",
                inventory,
                folders["reports"],
                *("-vvv", "--check", "--diff", "-e", "@%s" % credential),
                "--vault-password-file=%s" % (site / "vault-password"),
                extra={
                    "tracktion_plan_file": str(site / "plan.json"),
                    "tracktion_remediate_risk": "destructive",
                    "tracktion_report_outputs": ["html", "prometheus", "junit", "markdown"],
                },
                environment=environment,
                within=("sh", "-c", 'umask 000; exec "$@"', "sh"),
            )
    assert run.code == 0, run.output
    # Secrets were in the data that was read.
    assert run.findings("logs.error_burst", host="right")
    assert run.findings("service_health.wrong_status", host="right")
    assert run.findings("service_health.command_failed", host="right")
    outputs = {"output": run.output}
    for folder in (*folders.values(), site / "state", site / "plan.json"):
        for path in [folder, *folder.rglob("*")]:
            if path.is_file():
                outputs[str(path)] = path.read_bytes()
    outputs["process list"] = b"\n".join(sentry.commands)
    outputs["temporary files that others can read"] = b"\n".join(sentry.readable.values())
    outputs["system log"] = b"\n".join(sentry.logged)
    return outputs


def test_a_hundred_secrets_are_planted(planted, left):
    assert len(planted.locations) >= 100
    assert any("plan.json" in name for name in left)
    for name in ("report.json", "report.html", "report.prom", "report.junit.xml", "report.md", ".jsonl"):
        assert any(path.endswith(name) for path in left)
    assert b"ansible-playbook" in left["process list"]


def test_every_private_option_of_the_roles_has_one(planted, left):
    private = {name for area in _areas.find() for name in set(area.argument_spec) - area.public}
    assert private == {
        *(each.partition(",")[0] for each in planted.locations.values() if "_password," in each),
        *("service_health_endpoints", "service_health_commands", "network_paths", "network_external_endpoints"),
        "database_poolers",
    }


def test_none_of_them_is_found(planted, left):
    found = {name: sorted(planted.found_in(content)) for name, content in left.items()}
    assert {name: locations for name, locations in found.items() if locations} == {}
