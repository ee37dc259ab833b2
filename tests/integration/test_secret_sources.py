# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each way to pass a password works against a real server; one that fails makes only its area on its host unknown."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible.parsing.vault import VaultLib, VaultSecret
from tests.integration.playbooks import LOCAL, play, run_playbook

VAULT_PASSWORD = "the vault's password"
# Text that a template engine, a shell and YAML would each take for something else.
PASSWORD = "s3cr3t {{ 1 + 1 }} {% raw %} $(id) 'q' \\ \u00fc #x"
SERVERS_CHECK = "cache.unreachable"


class Vaulted(str):
    """Text that YAML shows as a value of ``!vault``."""


class Unsafe(str):
    """Text that YAML shows as a value of ``!unsafe``, as AWX writes values that a credential type injects."""


class Dumper(yaml.SafeDumper):
    pass


Dumper.add_representer(Vaulted, lambda dumper, text: dumper.represent_scalar("!vault", str(text), style="|"))
Dumper.add_representer(Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


def encrypted(text, password=VAULT_PASSWORD, vault_id=None):
    secret = VaultSecret(password.encode())
    return VaultLib([(vault_id or "default", secret)]).encrypt(text, secret, vault_id).decode()


@pytest.fixture(scope="module")
def server(redis7):
    """Variables to log in to Redis with the password."""
    client = redis7.redis()
    client.execute_command("ACL", "SETUSER", "sources", "reset", "on", ">" + PASSWORD, "+@all", "~*", "&*")
    yield {
        "cache_login_host": redis7.server.host,
        "cache_login_port": redis7.server.port,
        "cache_login_user": "sources",
        "tracktion_areas": ["cache"],
        "tracktion_sample_seconds": 0.1,
    }
    client.acl_deluser("sources")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A directory for an inventory, with the password of its vaults."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "vault-password").write_text(VAULT_PASSWORD)
    (folder / "redis-password").write_text(PASSWORD + "\n")
    return folder


def inventory(site, hosts, variables):
    path = site / "hosts.yml"
    hosts = {name: {**LOCAL, **own} for name, own in hosts.items()}
    path.write_text(yaml.dump({"all": {"hosts": hosts, "vars": variables}}, Dumper=Dumper))
    return path


def test_each_way_to_pass_a_secret(site, server):
    ways = {
        "plain": Unsafe(PASSWORD),
        "inline-vault": Vaulted(encrypted(PASSWORD)),
        "labelled-vault": Vaulted(encrypted(PASSWORD, vault_id="prod")),
        "template-of-a-vault": "{{ secrets.services[0].redis }}",
        "vault-file": None,
        "environment": "{{ lookup('ansible.builtin.env', 'REDIS_PASSWORD') }}",
        "file": "{{ lookup('ansible.builtin.file', '%s') }}" % (site / "redis-password"),
        "credential-type": "{{ injected_password }}",
        # Sources that fail.
        "wrong-vault": Vaulted(encrypted(PASSWORD, "another password")),
        "undefined": "{{ nowhere }}",
        "failing-lookup": "{{ lookup('ansible.builtin.file', '/nonexistent/password') }}",
    }
    hosts = {name: {} if value is None else {"cache_login_password": value} for name, value in ways.items()}
    hosts["template-of-a-vault"]["secrets"] = {"services": [{"redis": Vaulted(encrypted(PASSWORD))}]}
    (site / "host_vars").mkdir()
    variables = yaml.dump({"cache_login_password": Unsafe(PASSWORD)}, Dumper=Dumper)
    (site / "host_vars" / "vault-file.yml").write_text(encrypted(variables))
    path = inventory(site, hosts, server)
    (site / "credential.yml").write_text(yaml.dump({"injected_password": Unsafe(PASSWORD)}, Dumper=Dumper))

    run = run_playbook(
        "diagnose",
        path,
        site / "reports",
        "--forks=11",
        "-vvv",
        "--vault-password-file=%s" % (site / "vault-password"),
        "--extra-vars=@%s" % (site / "credential.yml"),
        environment={"REDIS_PASSWORD": PASSWORD},
    )

    assert run.code == 0, run.output
    said = {name: {found["summary"] for found in run.findings(host=name, status="unknown")} for name in ways}
    prefix = "cache_login_password: "
    assert said.pop("wrong-vault") == {prefix + "is encrypted with ansible-vault and cannot be decrypted"}
    assert said.pop("undefined") == {prefix + "its template uses the variable nowhere, which is not defined"}
    assert said.pop("failing-lookup") == {prefix + "its template fails in the lookup ansible.builtin.file"}
    assert not run.findings(SERVERS_CHECK, status="critical")
    measured = {host["name"] for host in run.report["hosts"] for area in host["areas"] if area["counts"]["ok"] > 10}
    assert measured == set(said) == set(ways) - {"wrong-vault", "undefined", "failing-lookup"}
    for text in (run.output, json.dumps(run.report)):
        assert "s3cr3t" not in text


def test_a_survey_with_optional_questions_left_empty(site, server):
    """An empty extra variable does not hide the value of the inventory, and text is a list."""
    path = inventory(site, {"web": {"cache_login_password": Unsafe(PASSWORD), "cache_top": 7}}, server)
    empty = [
        *("tracktion_%s" % name for name in ("hosts", "fail_at", "report_format", "extra_checks", "compose_project")),
        *("cache_login_%s" % name for name in ("host", "port", "user", "password")),
        *(
            "cache_%s" % name
            for name in ("deadline", "top", "tls", "distribution", "probe_host", "memory_used_warning")
        ),
        "tracktion_sample_seconds",
        "tracktion_visit_timeout",
    ]
    answers = {**dict.fromkeys(empty, ""), "cache_timeout": " \n", "tracktion_areas": "file_watching,\n cache\n"}
    run = run_playbook("diagnose", path, site / "reports", extra=answers)
    assert run.code == 0, run.output
    assert [area["name"] for area in run.report["hosts"][0]["areas"]] == ["cache", "file_watching"]
    assert not run.findings(SERVERS_CHECK)
    assert not [finding for finding in run.findings(area="cache", status="unknown") if "cache_" in finding["summary"]]


PLAY = """
- hosts: all
  gather_facts: false
  vars:
    cache_top: 7
    tracktion_fail_at: "{{ hostvars[inventory_hostname].tracktion_fail_at | default('critical', true) }}"
  tasks:
    - ansible.builtin.debug:
        msg: >-
          values={{ names | map('extract', found) | to_json }}
      vars:
        names: [project, top, areas, host, fail_at, missing]
        found:
          project: "{{ lookup('tracktion.ops.setting', 'tracktion_compose_project') }}"
          top: "{{ lookup('tracktion.ops.setting', 'cache_top') }}"
          areas: "{{ lookup('tracktion.ops.setting', 'tracktion_areas', default=[]) }}"
          host: "{{ lookup('tracktion.ops.setting', 'cache_probe_host') }}"
          fail_at: "{{ lookup('tracktion.ops.setting', 'tracktion_fail_at') }}"
          missing: "{{ lookup('tracktion.ops.setting', 'tracktion_nothing', default='d') }}"
"""


def test_an_empty_project_is_replaced_by_that_of_the_inventory_or_the_play(tmp_path):
    """An empty answer must not make a remedy act on every stack of the machine."""
    names = [
        "tracktion_compose_project",
        "cache_top",
        "tracktion_areas",
        "cache_probe_host",
        "tracktion_fail_at",
        "answer",
    ]
    hosts = inventory(
        tmp_path,
        {"web": {"tracktion_compose_project": "music", "cache_probe_host": "db", "tracktion_fail_at": "info"}},
        {},
    )
    extra = json.dumps({**dict.fromkeys(names, ""), "tracktion_compose_project": "{{ answer }}"})
    output = play(PLAY, hosts, tmp_path, "-e", extra)
    assert 'values=[\\"music\\", 7, [], \\"db\\", \\"info\\", \\"d\\"]' in output, output
