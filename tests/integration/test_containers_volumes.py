# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unused volumes are reported, and removed by name only."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_disk import DiskUse
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from tests.integration.containers import look, own_project, sound
from tests.integration.modules import run_module
from tests.integration.playbooks import LOCAL, inventory, run_playbook
from tests.lab.engine import docker
from tests.lab.servers import LABEL
from tests.lab.shell import attempt, wait_until
from tests.lab.throwaway import COMPOSE, wait_for

GIB = 1 << 30
REMEDY = "containers.remove_volume"
# Other volumes of this machine are reported, too, and never changed.
SETTINGS = {"containers_unused_volumes_info": GIB, "containers_top_volumes": 20}


@pytest.fixture
def app(tmp_path):
    """A separate project."""
    with own_project(tmp_path) as found:
        yield found


@contextlib.contextmanager
def made_volumes():
    """A function that creates volumes of an apparent size, which are removed at the end."""
    made = []

    def volume(name, size=GIB, **labels):
        marks = {LABEL: "containers", **labels}
        docker("volume", "create", *(word for pair in marks.items() for word in ("--label", "%s=%s" % pair)), name)
        made.append(name)
        with open("%s/data" % mountpoint(name), "wb") as stream:
            # A sparse file.
            stream.truncate(size)
        return name

    try:
        yield volume
    finally:
        attempt("docker", "volume", "rm", *made)


@pytest.fixture
def make(app):
    with made_volumes() as volume:
        yield volume
        # Remove the containers before their volumes.
        app.remove()


def mountpoint(name):
    return docker("volume", "inspect", "--format", "{{.Mountpoint}}", name).strip()


def exists(name):
    return name in docker("volume", "ls", "--format", "{{.Name}}").split()


def volumes(app, **settings):
    """Return the findings about volumes by volume."""
    return {each["object"]: each for each in look(app, **SETTINGS, **settings).get("containers.unused_volume", [])}


def evidence(name):
    """Return the evidence of a finding about a volume."""
    patient = {"project": "none", "top_volumes": 1000, "disk_seconds": 30, "deadline": 60}
    listed = run_module("container_state_info", patient)["disk"]["largest_unused_volumes"]
    (found,) = [each for each in listed if each["name"] == name]
    return {"kinds": ["volumes"], "names": [name], "expected": [{"name": name, "created_at": found["created_at"]}]}


def results(outcome):
    return {each["name"]: each["result"] for each in outcome["removed"]}


def test_large_volumes_are_reported_with_their_project(app, make):
    marks = {COMPOSE + ".project": "tracktion-old", COMPOSE + ".volume": "postgres-data"}
    large, small = make(app.name + "-large", 3 * GIB, **marks), make(app.name + "-small", 1)
    running, stopped = make(app.name + "-running"), make(app.name + "-stopped")
    app.run("keeper", options=("--volume", "%s:/data" % running))
    done = app.run("done", "true", options=("--volume", "%s:/data" % stopped))
    wait_for(done, "done", lambda state: state["Status"] == "exited")
    found = volumes(app)
    assert not {small, running, stopped} & set(found)
    (finding,) = sound([found[large]])
    assert finding["status"] == "info"
    assert "%s of the project tracktion-old holds 3.0 GiB" % large in finding["summary"]
    assert (finding["remedy"]["id"], finding["remedy"]["target"]) == (REMEDY, large)
    assert "postgres-data of the project tracktion-old" in finding["remedy"]["does"]
    # The command of the hint works.
    command = finding["hint"].split("`")[1].removeprefix("sudo ")
    assert "data" in attempt("sh", "-c", command).stdout
    # Below the limit there is no finding.
    assert "containers.unused_volume" not in look(app)
    app.run("user", options=("--volume", "%s:/data" % large))
    assert large not in volumes(app)


def test_the_number_of_reported_volumes_is_limited(app, make):
    names = {make("%s-%d" % (app.name, number), GIB) for number in range(8)}
    found = look(app, **dict(SETTINGS, containers_top_volumes=3))["containers.unused_volume"]
    assert len(found) == 3
    assert {each["object"] for each in found} <= names
    assert all(" unused volumes hold " in each["summary"] for each in found)


def test_protected_and_denied_volumes_are_kept(app, make):
    kept = make(app.name + "-kept", **{"tracktion.ops.protected": "true"})
    denied = make(app.name + "-denied")
    service = make(app.name + "-service", **{COMPOSE + ".project": app.name, COMPOSE + ".volume": "postgres-data"})
    names, deny = [kept, denied, service], [denied, "postgres-data"]
    found = volumes(app, containers_deny=deny)
    assert [found[name]["remedy"]["denied"] for name in names] == [True] * 3
    assert volumes(app)[service]["remedy"]["denied"] is False
    outcome = run_module("docker_prune", {"kinds": ["volumes"], "names": names, "deny": deny})
    assert (outcome["changed"], results(outcome)) == (False, dict.fromkeys(names, "protected"))
    assert all(map(exists, names))


def test_the_disk_use_is_counted_beside_other_clients():
    # Docker 20.10 counts for one client at a time.
    with DockerApi("/var/run/docker.sock", 30) as client:
        asked = [DiskUse(client, 30) for _client in range(8)]
        unknown = Unknown()
        assert all(each.summary(30, 0, unknown) for each in asked), unknown.parts


def test_only_named_volumes_are_removed(make, app):
    bystander = make(app.name + "-bystander")
    outcome = run_module("docker_prune", {"kinds": ["volumes"]})
    assert (outcome["failed"], outcome["kind"]) == (True, "bad_option")
    assert outcome["msg"].startswith("names: ")
    # Neither a part of a name nor a pattern matches.
    for name in (bystander[:-1], app.name + "*", ""):
        outcome = run_module("docker_prune", {"kinds": ["volumes"], "names": [name]})
        assert (outcome["changed"], outcome["removed"]) == (False, [])
    assert exists(bystander)


def test_a_volume_that_is_used_meanwhile_is_kept(app, make):
    name = make(app.name + "-data")
    named = evidence(name)
    app.run("user", "true", options=("--volume", "%s:/data" % name))
    outcome = run_module("docker_prune", named)
    assert (outcome["changed"], results(outcome)) == (False, {name: "kept"})
    assert app.containers[0] in outcome["removed"][0]["message"]
    assert exists(name)


def test_a_volume_that_was_created_again_is_kept(app, make):
    name = make(app.name + "-data")
    named = evidence(name)
    again(make, name)
    for check in (True, False):
        outcome = run_module("docker_prune", named, check=check)
        assert (outcome["changed"], results(outcome)) == (False, {name: "changed_meanwhile"})
    assert exists(name)
    assert results(run_module("docker_prune", evidence(name))) == {name: "removed"}
    assert not exists(name)


def again(make, name):
    """Create a volume of the same name; the engine records the time in seconds only."""
    made = created(name)
    docker("volume", "rm", name)
    wait_until(lambda: int(time.time()) > int(made), "another second", 5)
    make(name)


def created(name):
    return os.stat(mountpoint(name)).st_ctime


class Story:
    """Runs of the playbook about a volume of the project, and whether it existed after each."""

    def __init__(self, folder, app):
        self.folder = folder
        self.name = app.name + "_postgres-data"
        self.hosts = inventory(folder / "hosts.yml", {"here": LOCAL})
        self.settings = {
            **SETTINGS,
            "tracktion_areas": ["containers"],
            "tracktion_compose_project": app.name,
            "containers_expected_services": [],
            "tracktion_state_dir": str(folder / "state"),
            "tracktion_remediate_risk": "destructive",
            "tracktion_confirm": ["%s:%s" % (REMEDY, self.name)],
            # The cooldown would refuse it.
            "tracktion_remediate_cooldown": 0,
        }
        self.runs, self.left = {}, {}

    def run(self, title, *arguments, **extra):
        self.runs[title] = run_playbook(
            "remediate", self.hosts, self.folder / title, *arguments, extra={**self.settings, **extra}
        )
        self.left[title] = exists(self.name)

    def actions(self, title):
        found = self.runs[title].report["remediation"]["actions"]
        return [action for action in found if action["target"] == self.name]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    plan = {"tracktion_plan_file": str(folder / "plan.json")}
    with own_project(folder) as app, made_volumes() as volume:
        story = Story(folder, app)
        marks = {COMPOSE + ".project": app.name, COMPOSE + ".volume": "postgres-data"}
        story.run("healthy")
        volume(story.name, **marks)
        # A part of the name does not confirm.
        story.run("unconfirmed", "--check", tracktion_confirm=["%s:%s" % (REMEDY, app.name)])
        story.run("check", "--check", "--diff", **plan)
        story.run("run")
        story.run("again")
        volume(story.name, **marks)
        story.run("late", **plan)
        yield story


def test_without_a_finding_there_is_no_action(story):
    assert story.actions("healthy") == []
    assert "changed=0" in story.runs["healthy"].output


def test_without_confirmation_it_is_refused(story):
    (action,) = story.actions("unconfirmed")
    assert (action["status"], action["data_loss"]) == ("refused", "files")
    assert action["reason"].endswith("set tracktion_confirm: ['%s:%s']" % (REMEDY, story.name))
    assert story.left["unconfirmed"]


def test_check_mode_plans_and_changes_nothing(story):
    (action,) = story.actions("check")
    assert action["outcome"] == "changed", action["message"]
    assert "postgres-data of the project" in action["does"]
    assert action["result"]["removed"][0]["result"] == "planned"
    assert "volume %s" % story.name in story.runs["check"].output
    assert story.left["check"]


def test_a_run_removes_the_volume_and_the_finding(story):
    (action,) = story.actions("run")
    assert action["outcome"] == "changed", action["message"]
    assert action["result"]["removed"][0]["result"] == "removed"
    assert {about["change"] for about in action["findings"]} == {"fixed"}
    assert not story.left["run"]


def test_a_second_run_finds_nothing_to_do(story):
    assert story.actions("again") == []
    assert "changed=0" in story.runs["again"].output


def test_a_volume_that_was_created_again_since_the_plan_is_kept(story):
    (action,) = story.actions("late")
    assert (action["status"], action["reason"]) == (
        "refused",
        "its evidence has changed since the plan was made: plan again",
    )
    assert story.left["late"]
