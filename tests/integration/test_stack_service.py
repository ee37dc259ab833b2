# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module stack_service on containers of a real engine."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operations
from tests.integration.containers import silent
from tests.integration.modules import run_module
from tests.integration.stacks import Killed, kill_at, needs, outcomes, restart, running, states
from tests.lab.engine import docker
from tests.lab.shell import attempt
from tests.lab.throwaway import healthcheck, inspect, project, wait_for


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture(scope="module")
def shop():
    """A stack of three services, each of which depends on the next one, and one that a person has stopped."""
    with project("stack") as found:
        volume = found.name + "-data"
        found.store = found.run("store", options=("--volume", volume + ":/data", *healthcheck("true")))
        found.api = found.run("api", labels=needs("store:service_healthy:false"), options=healthcheck("true"))
        found.web = found.run("web", labels=needs("api:service_started:false"), options=healthcheck("true"))
        found.idle = found.run("idle", "true", options=("--restart", "no"))
        docker("exec", found.store, "sh", "-c", "echo kept > /data/file")
        wait_for(found.idle, "ended", lambda state: not state["Running"])
        for name in (found.store, found.api, found.web):
            wait_for(name, "healthy", lambda state: state["Health"]["Status"] == "healthy")
        try:
            yield found
        finally:
            found.remove()
            attempt("docker", "volume", "rm", "--force", volume)


def test_check_mode_lists_the_steps_and_changes_nothing(shop, state):
    before = states(shop)
    outcome = restart(shop, state, check=True)
    assert outcome["changed"]
    assert [(step["action"], step["service"], step["result"]) for step in outcome["steps"]] == [
        ("stop", "web", "planned"), ("stop", "api", "planned"), ("stop", "store", "planned"),
        ("start", "store", "planned"), ("start", "api", "planned"), ("start", "web", "planned"),
    ]  # fmt: skip
    assert outcome["lines"][0] == "1/6 stop %s (killed if it has not ended after 10 s)" % shop.web
    assert outcome["lines"][-1] == "left %s: is stopped (exit code 0), and is started only if it is named" % shop.idle
    assert states(shop) == before
    assert not state.exists()


def test_a_stack_is_restarted_in_order_and_nothing_else_changes(shop, state):
    with project("stack") as other:
        other.run("store")
        before, elsewhere = states(shop), states(other)
        outcome = restart(shop, state)
        assert "failed" not in outcome, outcome
        assert states(other) == elsewhere
    assert outcomes(outcome) == [
        ("stop", "web", "stopped"), ("stop", "api", "stopped"), ("stop", "store", "stopped"),
        ("start", "store", "started"), ("start", "api", "started"), ("start", "web", "started"),
    ]  # fmt: skip
    after = states(shop)
    assert [each["id"] for each in after.values()] == [each["id"] for each in before.values()], "none was recreated"
    assert after[shop.store]["started"] < after[shop.api]["started"] < after[shop.web]["started"]
    assert after[shop.web]["finished"] < after[shop.api]["finished"] < after[shop.store]["finished"]
    # It was started when the one before was healthy.
    assert after[shop.idle] == before[shop.idle], "what a person has stopped stays stopped"
    assert docker("exec", shop.store, "cat", "/data/file").strip() == "kept"
    assert outcome["lines"][3].startswith("4/6 start %s: healthy after " % shop.store)
    entries = [json.loads(line) for line in (state / "audit.jsonl").read_text().splitlines()]
    assert [(each["event"], each["remedy"], each["target"]) for each in entries] == [
        ("intent", "recovery.restart", shop.name), ("outcome", "recovery.restart", shop.name),
    ]  # fmt: skip
    assert (entries[1]["outcome"], entries[1]["run"]) == ("changed", entries[0]["run"])
    assert sorted(os.listdir(state)) == [".guard", ".recovery-guard", "audit.jsonl"]


def test_named_services_are_restarted_and_started_if_they_were_stopped(shop, state):
    before = states(shop)
    outcome = restart(shop, state, services=["api"])
    assert outcomes(outcome) == [("stop", "api", "stopped"), ("start", "api", "started")]
    assert states(shop)[shop.web] == before[shop.web]
    # The job ends at once, without an error.
    assert outcomes(restart(shop, state, services=["idle"])) == [("start", "idle", "completed")]
    planned = restart(shop, state, check=True, services=["store"], dependents="only", state="stopped")
    assert [step["service"] for step in planned["steps"]] == ["web", "api"]


def test_what_an_operation_stops_a_later_module_starts(shop, state):
    with _operations.begin(str(state), "restore", "postgresql:db", {"who": "ann"}) as restore:
        restore.keep(60)
    options = {"operation": restore.id}
    stopped = restart(shop, state, services=["store"], dependents="only", state="stopped", **options)
    assert outcomes(stopped) == [("stop", "web", "stopped"), ("stop", "api", "stopped")]
    assert stopped["to_start"] == [shop.web, shop.api]
    assert running(shop) == {"store"}
    refused = restart(shop, state)
    assert (refused["kind"], refused["failed"]) == ("busy", True)
    assert "restore of postgresql:db by ann, since 2" in refused["msg"]
    assert "Fix: Run again when it has ended, or after 2" in refused["msg"]
    assert refused["holders"][0]["id"] == restore.id
    assert restart(shop, state, services=["wbe"], **options)["kind"] == "not_found"
    assert _operations.read(str(state))[0][0]["until"], "the failure has not ended the operation"
    # The project is that of the containers that the operation has stopped.
    started = restart(shop, state, state="started", project="", **options)
    assert outcomes(started) == [("start", "api", "started"), ("start", "web", "started")]
    again = restart(shop, state, state="started", project="", **options)
    assert (again["changed"], again["steps"]) == (False, [])
    with _operations.begin(str(state), "restore", "postgresql:db", join=restore.id) as joined:
        assert joined.record["stopped"] == []


@pytest.mark.parametrize("kind", ["backup", "proof", "restore"])
def test_nothing_is_restarted_while_a_backup_is_held(shop, state, kind):
    before = states(shop)
    with _operations.begin(str(state), kind, "postgresql:db", {"who": "ann@control"}):
        for check in (True, False):
            outcome = restart(shop, state, check=check)
            assert (outcome["failed"], outcome["kind"]) == (True, "busy")
            assert "%s of postgresql:db by ann@control, since 2" % kind in outcome["msg"]
            assert "`ps -ww -o pid,etime,args -p %d`" % os.getpid() in outcome["msg"]
    assert states(shop) == before


def test_nothing_is_restarted_while_a_remediation_runs(shop, state):
    from ansible_collections.tracktion.ops.plugins.module_utils._journal import Journal

    journal = Journal(str(state))
    run = {"run": "20261129T120000Z-abcdef", "who": "ann@control"}
    journal.begin(run, {**run, "host": "h", "action": "1", "remedy": "r.r", "target": "t"}, 60, 0)
    before = states(shop)
    outcome = restart(shop, state)
    assert (outcome["failed"], outcome["kind"]) == (True, "busy")
    assert "a remediation is running on this host: ann@control, since 2" in outcome["msg"]
    assert states(shop) == before
    assert _operations.read(str(state)) == ([], [])


# Before and after each of these calls: a note on the disk, a request to the engine.
@pytest.mark.parametrize("point", [1, 4, 10, 13, 14, 20])
def test_the_next_run_starts_what_a_killed_one_had_stopped(shop, state, point):
    with pytest.raises(Killed):
        restart(shop, state, before=lambda: kill_at(point), services=["api", "web"])
    idle = states(shop)[shop.idle]
    planned = restart(shop, state, check=True, services=["store"])
    outcome = restart(shop, state, state="started")
    assert "failed" not in outcome, outcome
    assert running(shop) == {"store", "api", "web"}
    assert states(shop)[shop.idle] == idle, "it was not stopped by the restart"
    assert set(outcome["resumed"]) == set(planned["resumed"])
    assert _operations.read(str(state)) == ([], [])
    events = [json.loads(line)["event"] for line in (state / "audit.jsonl").read_text().splitlines()]
    assert events == ["intent", "intent", "outcome", "abandoned"]


def test_what_a_person_stopped_after_the_interruption_stays_stopped(shop, state):
    # After both containers were stopped and noted.
    with pytest.raises(Killed):
        restart(shop, state, before=lambda: kill_at(13), services=["api", "web"])
    assert running(shop) == {"store"}
    docker("start", shop.web)
    docker("stop", "--time", "1", shop.web)
    outcome = restart(shop, state, state="started")
    assert (running(shop), outcome["resumed"]) == ({"store", "api"}, [shop.api])
    assert "note: %s was stopped or started again since the interrupted run" % shop.web in outcome["lines"]
    assert running(shop) == {"store", "api"}
    docker("start", shop.web)
    wait_for(shop.web, "healthy", lambda state: state["Health"]["Status"] == "healthy")


def test_obstacles(tmp_path, state):
    """A container that ignores its signal, one that never becomes healthy, protected, paused, and crashing ones."""
    with project("stack") as found:
        deaf = ("python3", "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(600)")
        stubborn = found.run("stubborn", *deaf, options=("--stop-timeout", "1", "--restart", "always"))
        command = ("sh", "-c", "test -e /born && touch /sick; touch /born; exec sleep infinity")
        sick = found.run("sick", *command, options=healthcheck("test ! -e /sick"))
        waiting = found.run("waiting", labels=needs("sick:service_healthy:false"))
        indifferent = found.run("indifferent", labels=needs("sick:service_started:false"))
        vault = found.run("vault", labels={"tracktion.ops.protected": "true"})
        denied, paused = found.run("denied"), found.run("paused")
        folder = tmp_path / "mounted"
        folder.mkdir()
        mounting = found.run("mounting", options=("--volume", "%s:/mounted" % folder))
        folder.rmdir()
        docker("pause", paused)
        wait_for(sick, "healthy", lambda state: state["Health"]["Status"] == "healthy")
        before = states(found)
        outcome = restart(found, state, deny=["denied"], health_timeout=15)
        assert outcome["failed"]
        assert {name: result for action, name, result in outcomes(outcome) if action == "stop"} == {
            "stubborn": "killed", "waiting": "stopped", "indifferent": "stopped", "sick": "stopped",
        }  # fmt: skip
        assert {name: result for action, name, result in outcomes(outcome) if action == "start"} == {
            "sick": "unhealthy", "waiting": "dependency_failed", "indifferent": "started", "stubborn": "started",
        }  # fmt: skip
        (killed,) = [step for step in outcome["steps"] if step["result"] == "killed"]
        assert killed["message"] == "did not stop within its grace period of 1 s"
        assert {entry["name"]: entry["reason"].split(":")[0] for entry in outcome["left"]} == {
            vault: "is protected by its label", denied: "is in the deny list", paused: "is paused",
            mounting: "could not be started again",
        }  # fmt: skip
        assert "%s: depends on sick, which is still" % waiting in outcome["msg"]
        assert "docker start %s" % waiting in outcome["msg"]
        after = states(found)
        assert all(after[name] == before[name] for name in (vault, denied, paused, mounting))
        assert inspect(indifferent)["State"]["Running"]
        assert inspect(stubborn)["RestartCount"] == 0
        # The next run starts it, as its dependency works again.
        docker("exec", sick, "rm", "/sick")
        wait_for(sick, "healthy", lambda state: state["Health"]["Status"] == "healthy")
        again = restart(found, state, state="started")
        assert outcomes(again) == [("start", "waiting", "started")]
        # It was unhealthy before, which does not keep the others from being restarted.
        docker("exec", sick, "touch", "/sick")
        wait_for(sick, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy")
        named = restart(found, state, services=["sick", "indifferent"], health_timeout=15)
        assert outcomes(named)[2:] == [("start", "sick", "unhealthy"), ("start", "indifferent", "started")]
        assert "as before the restart" in named["msg"]
        # One that needs it healthy would not come back: it is not stopped.
        kept = restart(found, state, services=["waiting"])
        assert (kept["failed"], kept["steps"]) == (True, [])
        assert "waiting" in kept["msg"]
        assert "depends on sick, which is" in kept["msg"]


def test_a_container_that_cannot_be_started(state):
    with project("stack") as found:
        base = found.run("base")
        docker("network", "create", found.name)
        try:
            bound = found.run("bound", options=("--network", found.name), labels=needs("base:service_started:false"))
            with pytest.raises(Killed):
                restart(found, state, before=lambda: kill_at(13))
            assert running(found) == set()
        finally:
            docker("network", "rm", found.name)
        outcome = restart(found, state)
        assert outcomes(outcome) == [("start", "base", "started"), ("start", "bound", "not_started")]
        assert "%s: the engine rejects it" % bound in outcome["msg"]
        assert (outcome["failed"], outcome["to_start"]) == (True, [bound])
        assert inspect(base)["State"]["Running"]
        assert [each["name"] for each in _operations.read(str(state))[1][0]["stopped"]] == [bound]


def test_options_that_name_nothing(shop, state):
    unknown = restart(shop, state, services=["wbe"])
    assert unknown["kind"] == "not_found"
    assert "has no container of wbe (its services: api, idle, store, web)" in unknown["msg"]
    absent = run_module("stack_service", {"project": "no-such-stack", "state_dir": str(state)})
    assert "there is no compose project no-such-stack (there are: " in absent["msg"]
    assert "`docker compose ls --all`" in absent["msg"]


def test_a_circle_is_named(state):
    with project("stack") as found:
        for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
            found.run(name, labels=needs("%s:service_started:false" % other), verb="create")
        outcome = restart(found, state, services=["a"])
        assert outcome["kind"] == "bad_option"
        assert "depend on each other in a circle: a -> b -> c -> a" in outcome["msg"]
        assert _operations.read(str(state)) == ([], [])


def test_a_container_in_the_network_of_another_one_is_restarted_with_it(state):
    with project("stack") as found:
        front = found.run("front")
        found.run("sidecar", options=("--network", "container:%s" % inspect(front)["Id"]))
        outcome = restart(found, state, services=["front"])
        assert [(action, name) for action, name, _result in outcomes(outcome)] == [
            ("stop", "sidecar"), ("stop", "front"), ("start", "front"), ("start", "sidecar"),
        ]  # fmt: skip


def test_engines_that_cannot_be_used(shop, state, tmp_path):
    dead = restart(shop, state, docker_host="unix://%s" % (tmp_path / "no.sock"))
    assert (dead["failed"], dead["kind"]) == (True, "no_engine")
    with silent(tmp_path / "engine.sock") as address:
        hanging = restart(shop, state, docker_host=address, timeout=1)
    assert (hanging["failed"], hanging["kind"]) == (True, "no_answer")
    forbidden = restart(shop, state, before=lambda: os.setuid(65534))
    assert (forbidden["failed"], forbidden["kind"]) == (True, "permission")
    assert not state.exists()
