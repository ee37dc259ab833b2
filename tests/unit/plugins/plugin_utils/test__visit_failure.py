# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
import re
import shlex

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _visit_failure
from ansible_collections.tracktion.ops.plugins.plugin_utils._visit_failure import Connection

INVENTORIES = ["/inv/my hosts.yml", "/inv/b"]
SSH = Connection("ssh", "db.example.org", "2222", "o'brien", "sudo", "root", "/usr/bin/python3", False)
GARBAGE = "Module result deserialization failed: No start of json char found."
TRACEBACK = (
    "Traceback (most recent call last):\n"
    + "".join('  File "/usr/lib/x%d.py", line 1, in call\n' % number for number in range(200))
    + "ModuleNotFoundError: No module named '_ctypes'\n"
)


@pytest.mark.parametrize(
    ("result", "kind", "check_id"),
    [
        ({"msg": "Timed out after 60 second(s)."}, "timeout", "host.visit_failed"),
        ({"msg": "Task failed: Timed out after 60 second(s)."}, "timeout", "host.visit_failed"),
        ({"msg": "ssh: connect to host a port 22: Connection refused"}, "refused", "host.unreachable"),
        ({"msg": "ssh: connect to host a port 22: Connection timed out"}, "connection_timeout", "host.unreachable"),
        ({"msg": "Host key verification failed."}, "host_key_unknown", "host.unreachable"),
        ({"msg": "Invalid/incorrect password: Permission denied"}, "authentication", "host.unreachable"),
        ({"msg": "WARNING: UNPROTECTED PRIVATE KEY FILE!\nPermission denied (publickey)."}, "key_permissions",
         "host.unreachable"),
        ({"msg": "to use the 'ssh' connection type with passwords, you must install the sshpass program"}, "sshpass",
         "host.unreachable"),
        ({"msg": "Incorrect su password"}, "become_password_wrong", "host.visit_failed"),
        ({"msg": "Timeout (12s) waiting for privilege escalation prompt: "}, "become_timeout", "host.visit_failed"),
        ({"msg": GARBAGE, "module_stderr": "sudo: a password is required"}, "become_password_missing",
         "host.visit_failed"),
        ({"msg": GARBAGE, "module_stderr": "sudo: sorry, you must have a tty to run sudo"}, "become_requiretty",
         "host.visit_failed"),
        ({"msg": GARBAGE, "module_stderr": "bash: line 1: sudo: command not found"}, "become_missing",
         "host.visit_failed"),
        ({"msg": GARBAGE, "module_stderr": "OSError: [Errno 122] Disk quota exceeded"}, "temporary_full",
         "host.visit_failed"),
        ({"msg": "ansible-core requires a minimum of Python version 3.9. Current version: 3.6.8"}, "python_old",
         "host.visit_failed"),
        ({"msg": GARBAGE, "rc": 137}, "killed", "host.visit_failed"),
        ({"msg": GARBAGE, "rc": -11}, "killed", "host.visit_failed"),
        ({"msg": GARBAGE, "module_stderr": TRACEBACK, "rc": 1}, "crashed", "host.visit_failed"),
        ({"msg": GARBAGE, "module_stdout": "hello", "rc": 0}, "no_result", "host.visit_failed"),
        ({"msg": "Shared connection to a closed.", "unreachable": True}, "connection_lost", "host.unreachable"),
        ({"msg": "something new", "unreachable": True}, "unreachable", "host.unreachable"),
        ({"msg": "'nosuch' is undefined"}, "variables", "host.visit_failed"),
        ({"msg": "something new"}, "other", "host.visit_failed"),
        ({}, "other", "host.visit_failed"),
    ],
)  # fmt: skip
def test_a_cause_is_recognised(result, kind, check_id):
    failure = _visit_failure.classify(result, "db", SSH, INVENTORIES)
    assert (failure.kind, failure.check_id) == (kind, check_id)
    assert failure.hint


def test_a_traceback_is_quoted_by_its_last_line():
    failure = _visit_failure.classify({"msg": GARBAGE, "module_stderr": TRACEBACK}, "db")
    assert "ModuleNotFoundError: No module named '_ctypes'" in failure.summary
    assert "Traceback" not in failure.summary


def test_a_measurement_behind_a_banner_is_not_quoted():
    output = '{ Welcome }\n\n{"changed": false, "measured": "{\\"database\\": \\"hunter2\\"}"}'
    failure = _visit_failure.classify({"msg": GARBAGE, "module_stdout": output}, "db")
    assert failure.kind == "output_before_result"
    assert "{ Welcome }" in failure.summary
    assert "hunter2" not in failure.summary


def test_secrets_in_the_output_of_a_host_are_hidden():
    failure = _visit_failure.classify({"msg": GARBAGE, "module_stdout": "motd: password=hunter2 is the default"}, "db")
    assert "hunter2" not in failure.summary


def test_every_hint_is_complete_and_its_commands_are_shell_words():
    for connection in (SSH, Connection(), Connection(host="a; touch x", user="$(id)", become_user="x y")):
        words = _visit_failure._words("web; touch y", connection, INVENTORIES, "KILL", "")
        for cause in (*_visit_failure.CAUSES, _visit_failure.KILLED, _visit_failure.GARBAGE, _visit_failure.OTHER):
            hint = cause.hint.format(**words)
            assert "{" not in hint.replace("{}", "")
            for command in re.findall("`((?:ansible|ssh|ping|getent|ip)[ -][^`]*)`", hint):
                assert "touch" not in shlex.split(command), command


def test_the_command_of_a_hint_names_the_inventories_and_the_become_flags():
    hint = _visit_failure.classify({"msg": "Missing sudo password"}, "db", SSH, INVENTORIES).hint
    command = re.search("Test: `(.*)`", hint).group(1)
    assert shlex.split(command) == [
        "ansible", "db", "-i", "/inv/my hosts.yml", "-i", "/inv/b", "--become", "--ask-become-pass", "-m",
        "ansible.builtin.ping",
    ]  # fmt: skip
    doas = Connection("ssh", "h", "22", "me", "doas", "postgres")
    hint = _visit_failure.classify({"msg": "Incorrect doas password"}, "db", doas, []).hint
    assert "--become-method doas --become-user postgres" in hint
    hint = _visit_failure.classify({"msg": "Connection refused"}, "db", SSH, []).hint
    assert """`ssh -p 2222 "o'brien@db.example.org" true`""" in hint or "o'\"'\"'brien@db.example.org" in hint


ODD = (None, 1, [], {}, b"\xff", "\udcff", "x" * 1_000_000, "Traceback (most recent call last)", "\n\n\n", "{}" * 50)


def test_any_result_of_ansible_is_classified():
    rng = random.Random("visit failure")
    for _round in range(300):
        names = ("msg", "rc", "module_stdout", "module_stderr", "exception", "unreachable")
        result = {name: rng.choice(ODD) for name in names if rng.random() < 0.8}
        failure = _visit_failure.classify(result, "web", rng.choice((None, SSH)), INVENTORIES)
        assert len(failure.summary) < 1000
        (failure.summary + failure.hint).encode()
