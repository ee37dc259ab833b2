# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shlex
import subprocess
from itertools import pairwise

import pytest

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _launch

HOSTILE = (
    "$(touch x)",
    "`touch x`",
    "a'; touch x; '",
    'a"b',
    "a b",
    "a\nb",
    "\x1b[31m",
    "{{ 1 }}",
    "\u202eab",
    "-e",
    "@f",
    "a=b c=d",
)


def launched(*arguments, awx=False, private=(), known=("queues_names", "queues_password"), **cli):
    return _launch.launch(cli, arguments, ["/inv/a b.yml"], private, awx, known)


def words(launch, host="web", **variables):
    """Return the words of the command after the shell."""
    line = launch.command(host, variables)
    assert "\n" not in line
    done = subprocess.run(["bash", "-c", "printf '%%s\\0' %s" % line], stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout.split("\0")[:-1]


def extra(words_):
    """Return the extra variables in the words, as Ansible reads them."""
    made = {}
    for option, value in pairwise(words_):
        if option == "-e" and not value.startswith("@"):
            made.update(json.loads(value) if value.startswith("{") else dict([value.split("=", 1)]))
    return made


def test_a_command_repeats_the_options_of_the_run():
    launch = launched(
        ("queues_names=a", {"queues_names": "a"}),
        ('{"tracktion_areas": ["cache"], "queues_limit": 5}', {"tracktion_areas": ["cache"], "queues_limit": 5}),
        ("@/vars.yml", {"queues_names": "b"}),
        ("tracktion_only=x", {"tracktion_only": "x", "tracktion_plan_key": "k" * 20, "tracktion_fail_at": "info"}),
        become=True,
        remote_user="ann",
        vault_password_files=("/vault.sh",),
    )
    found = words(launch, tracktion_only="0123456789abcdef")
    assert found[:4] == ["ansible-playbook", _areas.playbook("remediate"), "-i", "/inv/a b.yml"]
    assert " -b -u ann --vault-password-file /vault.sh --limit web -e @/vars.yml " in " ".join(found)
    assert extra(found) == {
        "queues_names": "a",
        "tracktion_areas": ["cache"],
        "queues_limit": 5,
        "tracktion_only": "0123456789abcdef",
    }
    assert found[-2:] == ["--check", "--diff"]


def test_a_secret_is_not_repeated_but_named():
    launch = launched(
        ("x", {"queues_password": "hunter2", "queues_token": "hunter2", "api_key": "hunter2"}),
        ("x", {"queues_url": "amqp://user:hunter2@host/", "queues_pin": "hunter2", "queues_names": ["a"]}),
        private=("queues_pin",),
    )
    line = launch.command("web", {"tracktion_only": "f"})
    assert "hunter2" not in line
    assert '-e "queues_password=$QUEUES_PASSWORD"' in line
    assert line.count("=$") == 5
    assert extra(words(launch))["queues_names"] == ["a"]
    assert "hunter2" not in launched(("@f", {"queues_password": "hunter2"}), awx=True).command("web", {})


@pytest.mark.parametrize("text", HOSTILE)
def test_every_value_is_passed_unchanged(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = words(launched(("x", {"queues_names": text})), tracktion_confirm=["queues.purge:" + text])
    assert extra(found) == {"queues_names": text, "tracktion_confirm": ["queues.purge:" + text]}
    assert list(tmp_path.iterdir()) == []
    line = launched(("x", {"queues_names": text}), awx=True).command("web", {"tracktion_confirm": [text]})
    assert line.isprintable()
    assert json.loads(line.split("`")[3]) == {"queues_names": text, "tracktion_confirm": [text]}


def test_in_awx_the_command_names_a_job_template_and_no_path():
    launch = launched(
        ("@/runner/env/extravars", {
            "awx_job_id": 7, "tower_job_id": 7, "tracktion_areas": ["cache"], "queues_names": ["a"], "other": 1,
            "tracktion_report_dir": "/runner/project/reports", "queues_password": "x",
            "tracktion_extra_checks": ["x" * 600],
        }),
        awx=True,
        become=True,
    )  # fmt: skip
    line = launch.command("web", {"tracktion_only": "f"})
    assert line == (
        "Launch the remediation job template with job type Check, limit `web` and extra variables "
        '`{"tracktion_areas": ["cache"], "queues_names": ["a"], "tracktion_only": "f"}`'
    )
    assert "/" not in line


HOSTS = (
    "web", "web-1.example.org", "a:b", "!web", "*", "web[0]", "~web", "a,b", "a&b", "fe80::1", "@f", "a b",
    "we\u0301b", "\x1b",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTS)
def test_a_limit_is_one_host(name):
    inventory = InventoryManager(DataLoader(), ["localhost,"])
    for each in sorted({"web", "web0", "other", "a", "b", name}):
        inventory._inventory.add_host(each, "all")
    inventory.subset(_launch.limit(name))
    assert [host.name for host in inventory.get_hosts("all")] == [name]
    assert _launch.limit(name).isprintable()


def test_an_argument_that_cannot_be_read_sets_nothing(tmp_path):
    assert _launch._variables("@" + str(tmp_path / "gone.yml"), DataLoader()) == {}
    assert _launch._variables('{"a": [1]}', DataLoader()) == {"a": [1]}
    assert _launch._variables("a=1 b='x y'", DataLoader()) == {"a": "1", "b": "x y"}
    assert shlex.split(_launch.Launch(("web,",)).command("web", {}))[2:4] == ["-i", "web,"]
