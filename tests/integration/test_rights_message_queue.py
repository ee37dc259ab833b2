# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings of message_queue for a user without a right, their hints, and the lines they leave in the broker's log."""

from __future__ import annotations

import contextlib
import re
import time
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _rabbitmq_node_info
from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks, _evaluation
from tests.integration import areas
from tests.integration.rabbitmq import forget_connections
from tests.lab.shell import wait_until
from tests.rights import message_queue as rights

OPEN, HIDDEN = "lab.open", "lab.hidden"
SEES = {"/": "^$", OPEN: "^$"}
EVERYWHERE = {**SEES, HIDDEN: "^$"}
LOG_PROBLEM = re.compile(r"\[(?:warning|error|critical)\]")
EXPECTED = [{"vhost": OPEN, "name": "lab.known"}, {"vhost": HIDDEN, "name": "lab.secret", "min_consumers": 1}]

# The 200 new messages must not count as growth.
SETTINGS = {"message_queue_expected_queues": EXPECTED, "message_queue_growth_floor": 1000}


@pytest.fixture(scope="module", params=["rabbitmq310", "rabbitmq40"])
def one(request):
    """A broker with a queue in each of two vhosts; the second queue has a backlog."""
    found = request.getfixturevalue(request.param)
    with vhosts(found, OPEN, HIDDEN):
        for vhost, queue, messages in ((OPEN, "lab.known", 0), (HIDDEN, "lab.secret", 200)):
            with found.amqp(virtual_host=vhost) as connection:
                channel = connection.channel()
                channel.queue_declare(queue, durable=True)
                for _number in range(messages):
                    channel.basic_publish("", queue, b"{}")
        wait_until(lambda: found.rabbitmq_api("GET", "/nodes")[0].get("proc_used"), "statistics", 15)
        # A user who cannot open the vhost over AMQP knows the consumers from the statistics only.
        secret = "/queues/%s/lab.secret" % HIDDEN
        wait_until(lambda: "consumers" in found.rabbitmq_api("GET", secret), "statistics of the queue", 15)
        yield found


@contextlib.contextmanager
def vhosts(one, *names):
    """Create vhosts in which the administrator has all permissions; delete them at the end of the context."""
    for name in names:
        one.rabbitmq_api("PUT", "/vhosts/" + quote(name, safe=""), {})
        allowed = {"configure": ".*", "write": ".*", "read": ".*"}
        one.rabbitmq_api("PUT", "/permissions/%s/%s" % (quote(name, safe=""), one.server.user), allowed)
    try:
        yield
    finally:
        for name in names:
            one.rabbitmq_api("DELETE", "/vhosts/" + quote(name, safe=""))


@contextlib.contextmanager
def user(one, tags, permissions, name="lab.user"):
    """Create a user, return its settings, and delete it at the end of the context."""
    one.rabbitmq_api("PUT", "/users/" + quote(name, safe=""), {"password": "lab", "tags": tags})
    for vhost, pattern in permissions.items():
        allowed = dict.fromkeys(("configure", "write", "read"), pattern)
        one.rabbitmq_api("PUT", "/permissions/%s/%s" % (quote(vhost, safe=""), quote(name, safe="")), allowed)
    try:
        yield {"message_queue_login_user": name, "message_queue_login_password": "lab"}
    finally:
        one.rabbitmq_api("DELETE", "/users/" + quote(name, safe=""))


def log_problems(one, before):
    """Return the warnings and errors that the broker has logged after the first ``before`` characters."""
    # The broker writes its log with a delay.
    time.sleep(0.3)
    return [line for line in one.server.logs()[before:].splitlines() if LOG_PROBLEM.search(line)]


def diagnose(one, settings, **more):
    """Return ``(findings, ids of the unknown checks, problems in the broker's log)``."""
    before = len(one.server.logs())
    found = one.diagnose(**{**SETTINGS, **settings, **more})
    unknown = {check for check, same in found.items() if any(each["status"] == "unknown" for each in same)}
    return found, unknown, log_problems(one, before)


def alarms(found):
    """Return ``{id: objects}`` of the warnings and critical findings."""
    return {
        check: [finding["object"] for finding in same if finding["status"] in ("warning", "critical")]
        for check, same in found.items()
        if any(finding["status"] in ("warning", "critical") for finding in same)
    }


def hints(found):
    return {finding["hint"] for same in found.values() for finding in same if finding["status"] == "unknown"}


def commands(hint):
    return re.findall("`([^`]*)`", hint)


def run(one, lines):
    """Run pasted commands in a shell of the broker's container."""
    return one.server.exec("bash", "-c", "\n".join(["set -e", *lines]))


def test_a_user_with_all_rights_sees_everything(one):
    seen = {"message_queue.no_consumer", "message_queue.too_few_consumers"}
    for tags, permissions in (("monitoring", EVERYWHERE), ("administrator", {"/": "^$"})):
        with user(one, tags, permissions) as settings:
            found, unknown, logged = diagnose(one, settings)
        assert unknown == set()
        assert set(alarms(found)) == seen
        assert logged == []


@pytest.mark.parametrize("tag", ["management", "policymaker", "unheard-of,management"])
def test_without_the_tag_monitoring(one, tag):
    with user(one, tag, EVERYWHERE) as settings:
        found, unknown, logged = diagnose(one, settings)
        assert unknown == rights.MONITORING.checks
        # Checks of what it can see are evaluated.
        assert set(alarms(found)) == {"message_queue.no_consumer", "message_queue.too_few_consumers"}
        assert logged == []
        (hint,) = hints(found)
        # The command keeps the tags that the user has.
        (command,) = commands(hint)
        assert command.startswith(rights.MONITORING.grant)
        assert set(tag.split(",")) < set(command.split())
        if tag == "management":
            run(one, [command])
            assert diagnose(one, settings)[1] == set()


def test_without_any_tag(one):
    with user(one, "", EVERYWHERE) as settings:
        found, unknown, logged = diagnose(one, settings)
    assert unknown == rights.ANY_TAG.checks
    assert all(rights.ANY_TAG.grant + " -- lab.user monitoring" in hint for hint in hints(found))
    # Over AMQP only.
    assert alarms(found)["message_queue.too_few_consumers"] == [HIDDEN + " lab.secret"]
    assert set(alarms(found)) <= {
        "message_queue.management_unreachable",
        "message_queue.too_few_consumers",
        "message_queue.no_consumer",
    }
    # The missing tag is not known before the first request.
    assert [line for line in logged if "Not management user" not in line] == []


def test_without_permissions_in_one_of_several_vhosts(one):
    with user(one, "monitoring", SEES) as settings:
        found, unknown, logged = diagnose(one, settings)
        assert unknown == rights.PERMISSIONS.checks
        assert alarms(found) == {"message_queue.vhost_hidden": ["vhost " + HIDDEN]}
        assert logged == []
        (hint,) = hints(found)
        (command,) = commands(hint)
        assert command.startswith(rights.PERMISSIONS.grant)
        assert commands(found["message_queue.vhost_hidden"][0]["hint"]) == [command]
        # Vhosts that are not selected are not reported as hidden.
        only = {"message_queue_vhosts": [OPEN], "message_queue_expected_queues": EXPECTED[:1]}
        assert "message_queue.backlog" not in diagnose(one, settings, **only)[1]
        run(one, [command])
        assert diagnose(one, settings)[1] == set()


def test_without_permissions_in_the_vhost_to_log_in_to(one):
    with user(one, "monitoring", {OPEN: "^$", HIDDEN: "^$"}) as settings:
        found, _unknown, logged = diagnose(one, settings)
        (finding,) = found["message_queue.unreachable"]
        assert (finding["status"], commands(finding["hint"])) == (
            "warning",
            ["rabbitmqctl set_permissions --vhost=/ -- lab.user '^$' '^$' '^$'"],
        )
        assert logged == []
    with user(one, "administrator", {OPEN: "^$"}) as settings:
        found, unknown, logged = diagnose(one, settings)
        assert (found["message_queue.unreachable"][0]["status"], unknown, logged) == ("warning", set(), [])


def test_over_amqp_only_the_hidden_queues_are_unknown(one):
    with user(one, "monitoring", SEES) as settings:
        found, unknown, _logged = diagnose(one, settings, message_queue_management_port=1)
        assert unknown == rights.ANY_TAG.checks | {"message_queue.missing_queue", "message_queue.too_few_consumers"}
        assert set(alarms(found)) == {"message_queue.management_unreachable"}
        # Another protocol at the port of the API.
        found, unknown, _logged = diagnose(one, settings, message_queue_login_protocol="https")
        assert unknown == rights.ANY_TAG.checks | {"message_queue.missing_queue", "message_queue.too_few_consumers"}


# Names that end a quotation, a command or a line, that a second shell evaluates, or that look like an option.
HOSTILE = ("v'; touch /tmp/pwned; ' \\\\", "-p", "  new\nline\x1b[31m\u202e`touch /tmp/pwned`$(touch /tmp/pwned)")


def test_hints_are_safe_to_paste_whatever_the_names(rabbitmq40):
    one, name = rabbitmq40, "-u'; touch /tmp/pwned; \n\""
    with vhosts(one, *HOSTILE), user(one, "management", {"/": "^$"}, name) as settings:
        settings["message_queue_expected_queues"] = []
        (hint,) = hints(diagnose(one, settings)[0])
        run(one, commands(hint))
        found, unknown, _logged = diagnose(one, settings)
        assert unknown == {"message_queue." + check for check in rights.IN_VHOSTS}
        (hint,) = hints(found)
        assert {finding["hint"].partition(": ")[2] for finding in found["message_queue.vhost_hidden"]} == {
            "`%s`" % command for command in commands(hint)
        }
        assert len(commands(hint)) == len(one.rabbitmq_api("GET", "/vhosts")) - 1
        run(one, commands(hint))
        assert diagnose(one, settings)[1] == set()
        assert run(one, ["ls /tmp/pwned || echo no"]).strip() == "no"


def test_the_hint_for_a_vhost_that_is_down_is_safe_to_paste(rabbitmq40):
    with vhosts(rabbitmq40, HOSTILE[2]):
        area, outcome, settings = areas.visit("message_queue", rabbitmq40.settings())
        for vhost in outcome["measurement"]["node"]["vhosts"]:
            vhost["down_on"] = ["rabbit@localhost"] if vhost["name"] == HOSTILE[2] else []
        findings, _counts = _evaluation.evaluate("message_queue", _checks.load(area), "here", outcome, settings)
        (finding,) = [each for each in findings if each["id"] == "message_queue.vhost_down"]
        assert "already running" in run(rabbitmq40, [*commands(finding["hint"]), "test ! -e /tmp/pwned"])


def test_own_connections_are_excluded_from_all_lists(one):
    with one.amqp(client_properties={"connection_name": "tracktion-ops"}), one.amqp() as connection:
        connection.channel()
        # A connection is listed before its channels are counted.
        wait_until(lambda: both_counted(one.rabbitmq_api("GET", "/connections")), "statistics of both", 15)
        forget_connections()
        listed = one.run("rabbitmq_node_info")["connections"]
        assert (listed["total"], [entry["client"] for entry in listed["most_channels"]]) == (1, ["lab"])
        cluster = one.rabbitmq_api("GET", "/overview")["cluster_name"]
        seen = {tag: identities(one, tag) for tag in ("administrator", "monitoring", "management")}
        assert seen["administrator"][0].startswith("rabbitmq:%s/rabbitmq-cluster-id-" % cluster)
        assert re.fullmatch("rabbitmq:%s/[0-9a-f]{16}" % re.escape(cluster), seen["monitoring"][0])
        assert seen["management"][0] is None
        assert all(first == second for first, second in seen.values())


def both_counted(entries):
    return len(entries) == 2 and all("channels" in entry for entry in entries)


def identities(one, tag):
    """Return the identity from two measurements by a user with this tag."""
    with user(one, tag, {"/": "^$"}):
        login = {"login_user": "lab.user", "login_password": "lab"}
        return [one.run("rabbitmq_node_info", **login)["identity"] for _time in range(2)]


def test_brokers_with_the_same_name_are_distinguished():
    def identity(connected_at, name):
        client = SimpleNamespace(overview={"cluster_name": "rabbit@rabbitmq"}, tags=frozenset(["monitoring"]))
        entries = [{"connected_at": connected_at + later, "name": name} for later in (5000, 0)]
        return _rabbitmq_node_info.identity(client, entries)

    assert identity(1790000000001, "172.18.0.5:41306 -> 172.18.0.2:5672") == identity(
        1790000000001, "172.18.0.5:41306 -> 172.18.0.2:5672"
    )
    assert identity(1790000000001, "172.18.0.5:41306 -> 172.18.0.2:5672") != identity(
        1790000000002, "172.18.0.5:41306 -> 172.18.0.2:5672"
    )
    unused = SimpleNamespace(overview={"cluster_name": "rabbit@rabbitmq"}, tags=frozenset(["monitoring"]))
    assert _rabbitmq_node_info.identity(unused, []) is None
