# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of the containers fires on its fault, stays quiet without it, and its remedy cures it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _docker
from tests.integration.areas import diagnose
from tests.integration.modules import run_module, run_module_in_container
from tests.integration.playbooks import LOCAL, inventory, run_remedy
from tests.integration.test_container_restart import silent
from tests.lab.engine import compose_command, docker
from tests.lab.faults import every
from tests.lab.faults.containers import HEALTHY, SOUND
from tests.lab.images import ensure_image
from tests.lab.inventory import variables
from tests.lab.servers import LABEL
from tests.lab.shell import attempt, run, wait_until
from tests.lab.throwaway import healthcheck, inspect, project, wait_for

FAULTS = {name: fault for name, fault in every().items() if fault.area == "containers"}
# What a fault brings about that is another one's business.
FIRES = [(fault.name, check) for fault in FAULTS.values() for check in fault.fires]


@pytest.fixture
def app(tmp_path):
    """A project of its own."""
    file = tmp_path / "own-compose.yaml"
    file.write_text("services: {}")
    with project("containers") as found:
        found.compose_file = str(file)
        yield found


def look(found, **settings):
    """The findings about a project of its own."""
    return diagnose("containers", {"containers_project": found.name, "containers_expected_services": [], **settings})


def sound(findings):
    """Findings that are worded: a template that fails shows as the title with the reason."""
    assert findings
    for finding in findings:
        assert finding["status"] in ("info", "warning", "critical"), finding
        assert not finding["summary"].startswith(finding["title"]), finding["summary"]
        assert "is undefined" not in (finding["advice"] or ""), finding["advice"]
        assert "None" not in finding["summary"], finding["summary"]
        if finding["remedy"]:
            assert finding["remedy"]["problem"] is None
    return findings


@pytest.fixture(scope="module")
def broken(lab):
    """The findings about a stack with all faults at once: each has containers of its own."""
    with contextlib.ExitStack() as stack:
        for name in FAULTS:
            stack.enter_context(lab.fault(name))
        yield diagnose("containers", {**variables(lab), "containers_starting_seconds_warning": 0})


def test_a_healthy_stack_has_no_findings(lab):
    lab.wait_healthy()
    assert diagnose("containers", variables(lab)) == {}


def test_a_machine_without_an_engine_has_no_findings_unless_it_should_have_one():
    nowhere = {"containers_docker_host": "unix:///nonexistent/docker.sock"}
    assert diagnose("containers", nowhere, before=forget_programs) == {}
    found = diagnose("containers", {**nowhere, "containers_engine_required": True}, before=forget_programs)
    assert list(found) == ["containers.engine_missing"]
    assert sound(found["containers.engine_missing"])


SOCKET = "/var/run/docker.sock"


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_libraries_of_a_distribution_will_do(app, suite):
    app.run("web", options=(*SOUND, *HEALTHY))
    socket = ("--volume", "%s:%s" % (SOCKET, SOCKET))
    found = run_module_in_container(ensure_image(suite), "container_state_info", {"project": app.name}, socket)
    assert [container["service"] for container in found["containers"]] == ["web"]
    # From inside a container the engine can be asked, and the kernel cannot.
    assert found["containers"][0]["memory_bytes"] is None
    assert "containers.use" in {entry["part"] for entry in found["unknown"]}
    without = run_module_in_container(ensure_image(suite), "container_state_info")
    assert (without["reachable"], without["engine"]["installed"], without["containers"]) == (True, False, [])


def forget_programs():
    """As on a machine where Docker was never installed."""
    _docker.PROGRAMS = ()


# The container of each fault, by the service's name.
SERVICES = {
    "bare-service": "bare",
    "changed-limit": "redis",
    "crash-loop": "crashing",
    "many-processes": "crowded",
    "memory-near-limit": "full",
    "out-of-memory": "greedy",
    "paused": "frozen",
    "port-taken": "barred",
    "slow-start": "late",
    "stopped-service": "file_watcher",
    "throttled": "slow",
    "unhealthy": "sick",
    "worker-out-of-memory": "forgetful",
}


@pytest.mark.parametrize(("fault", "check"), FIRES, ids=["%s-%s" % pair for pair in FIRES])
def test_a_check_fires_on_its_fault(lab, broken, fault, check):
    found = sound(broken[check])
    service = SERVICES.get(fault)
    about = [finding for finding in found if service is None or "%s-%s-" % (lab.project, service) in finding["object"]]
    assert about, found


def test_no_check_fires_on_what_is_well(lab, broken):
    well = ("postgres", "rabbitmq", "analysis_service", "tracklist_service")
    named = {finding["object"] for findings in broken.values() for finding in findings}
    assert not [name for name in named for service in well if name == lab.container(service)]
    # The faults of one thing each are no faults of anything else.
    unlimited = {finding["object"] for finding in broken["containers.no_memory_limit"]}
    assert all("-bare-" in name for name in unlimited)


def test_what_is_told_of_a_fault_names_the_cause(broken):
    def summary(check, service):
        return next(each["summary"] for each in broken["containers." + check] if "-%s-" % service in each["object"])

    assert "exit code 3" in summary("crash_loop", "crashing")
    assert "killed by the kernel" in summary("stopped", "greedy")
    assert "address already in use" in summary("stopped", "barred")
    assert "(pid %d)" % os.getpid() in summary("port_taken", "barred")
    assert "100 %" in summary("cpu_throttled", "slow")
    (drift,) = broken["containers.compose_drift"]
    assert "576.0 MiB" in drift["summary"]
    assert "512.0 MiB" in drift["summary"]


def test_a_port_that_another_container_holds_is_told_with_its_name(app):
    first = app.run("first", options=(*SOUND, *HEALTHY, "--publish", "127.0.0.1::8000"))
    port = inspect(first)["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"]
    # A port that the engine is to choose is taken by nobody.
    app.run("second", options=(*SOUND, "--publish", "127.0.0.1:0:8000"), verb="create")
    assert "containers.port_taken" not in look(app)
    third = app.run("third", options=(*SOUND, "--publish", "%s:8000" % port), verb="create")
    (finding,) = sound(look(app)["containers.port_taken"])
    assert third in finding["object"]
    assert "container %s holds" % first in finding["summary"]
    assert first in finding["advice"]


def test_a_service_that_has_done_its_work_is_no_fault(app):
    done = app.run("migration", "true")
    wait_for(done, "done", lambda state: state["Status"] == "exited")
    assert look(app) == {}
    # Unless it was said to have to run.
    (finding,) = sound(look(app, containers_expected_services=["migration"])["containers.stopped"])
    assert finding["status"] == "critical"


def test_what_ends_while_it_is_measured_is_not_unknown(app):
    app.run("brief", "sleep", "2", options=(*SOUND, *HEALTHY))
    assert look(app, tracktion_sample_seconds=3) == {}


def test_expected_services_are_missed(app):
    app.run("web", options=(*SOUND, *HEALTHY))
    found = look(app, containers_expected_services=["web", "worker"])
    assert [finding["object"] for finding in sound(found["containers.missing_service"])] == ["worker"]


COMPOSE = """
services:
  web: {image: "${REGISTRY}web:2", mem_limit: "${LIMIT:-64m}", volumes: ["./data:/data:ro", "named:/named"]}
  same: {image: "${IMAGE:-%s}", mem_limit: 64m}
  unsure: {image: "${ONLY_IN_A_SHELL}:1", mem_limit: 64m}
  worker: {image: worker}
  tool: {image: tool, profiles: [tools]}
volumes: {named: {}}
"""


def test_a_compose_file_is_compared_to_what_runs(app, tmp_path):
    web, same = (app.run(name, options=(*SOUND, *HEALTHY)) for name in ("web", "same"))
    app.run("unsure", options=(*SOUND, *HEALTHY))
    (tmp_path / "docker-compose.yaml").write_text(COMPOSE % inspect(same)["Config"]["Image"])
    (tmp_path / ".env").write_text("# where from\nexport REGISTRY='registry/'\n")
    settings = {"containers_compose_files": [str(tmp_path / "docker-compose.yaml")]}
    found = look(app, **settings)
    (drift,) = sound(found["containers.compose_drift"])
    assert drift["object"] == "%s image" % web
    assert "registry/web:2" in drift["summary"]
    assert [each["object"] for each in sound(found["containers.compose_missing"])] == ["%s worker" % app.name]
    assert [each["object"] for each in sound(found["containers.path_missing"])] == [str(tmp_path / "data")]


def test_containers_that_name_no_compose_file_are_not_compared(app):
    app.compose_file = None
    app.run("web", options=(*SOUND, *HEALTHY))
    found = look(app)
    assert set(found) == {"containers.compose_missing", "containers.compose_drift"}
    assert {finding["status"] for (finding,) in found.values()} == {"unknown"}


@pytest.mark.parametrize("content", [None, "services: [", "- a list"])
def test_a_compose_file_that_cannot_be_read_is_unknown(app, tmp_path, content):
    app.run("web", options=(*SOUND, *HEALTHY))
    path = tmp_path / "compose.yaml"
    if content is not None:
        path.write_text(content)
    found = look(app, containers_compose_files=[str(path)])
    assert set(found) == {"containers.compose_missing", "containers.compose_drift"}
    for (finding,) in found.values():
        assert finding["status"] == "unknown"
        assert str(path) in finding["summary"]


def test_without_pyyaml_the_comparison_is_unknown(app, tmp_path):
    app.run("web", options=(*SOUND, *HEALTHY))
    path = tmp_path / "compose.yaml"
    path.write_text("services: {}")
    settings = {"containers_project": app.name, "containers_compose_files": [str(path)]}
    settings["containers_expected_services"] = []

    def forget_yaml():
        sys.modules["yaml"] = None

    found = diagnose("containers", settings, before=forget_yaml)
    assert {finding["status"] for findings in found.values() for finding in findings} == {"unknown"}
    assert "PyYAML" in found["containers.compose_drift"][0]["summary"]


# The engine


def test_an_engine_that_is_down_is_told(tmp_path):
    found = diagnose("containers", {"containers_docker_host": "unix://%s" % (tmp_path / "docker.sock")})
    (finding,) = sound(found["containers.unreachable"])
    assert finding["status"] == "critical"
    assert "no_engine" in finding["summary"]


def test_an_engine_that_hangs_is_told_in_time(tmp_path):
    with silent(tmp_path / "docker.sock") as host:
        began = time.monotonic()
        found = diagnose("containers", {"containers_docker_host": host, "containers_timeout": 1})
        assert time.monotonic() - began < 4
    (finding,) = sound(found["containers.unreachable"])
    assert "timeout" in finding["summary"]
    assert "journalctl" in finding["advice"]


def test_what_is_amiss_with_the_engine_itself_is_told(app, tmp_path):
    wrong = tmp_path / "daemon.json"
    wrong.write_text('{"live-restore": true,}')
    settings = {"containers_engine_version_warning": 1000, "containers_live_restore_wanted": True}
    found = look(app, containers_daemon_configuration=str(wrong), **settings)
    for check in ("engine_old", "live_restore", "daemon_configuration"):
        assert sound(found["containers." + check])
    assert str(wrong) in found["containers.daemon_configuration"][0]["summary"]
    wrong.write_text('{"live-restore": true}')
    assert "containers.daemon_configuration" not in look(app, containers_daemon_configuration=str(wrong))


def test_a_disk_that_takes_too_long_to_count_is_unknown(app):
    found = look(app, containers_disk_seconds=0.0001)
    assert set(found) == {"containers.reclaimable", "containers.stopped_space", "containers.unused_volumes"}
    assert {findings[0]["status"] for findings in found.values()} == {"unknown"}


# The disk, and the remedies


def remedy(name, tmp_path, check=False, evidence=None, **settings):
    """Run a remedy's task file by hand; its output."""
    hosts = inventory(tmp_path / "hosts.yml", {"here": {**LOCAL, **settings}})
    arguments = ("--check", "--diff") if check else ()
    return run_remedy("containers", "remediate/%s" % name, hosts, evidence or {}, *arguments)


def test_a_sick_service_is_restarted_and_well_again(app, tmp_path):
    # Well again after a restart, as one that had only lost its connection.
    command = ("sh", "-c", "test -e /born && touch /well; touch /born; exec sleep infinity")
    sick = app.run("sick", *command, options=(*SOUND, *healthcheck("test -e /well")))
    wait_for(sick, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy")
    (finding,) = sound(look(app)["containers.unhealthy"])
    offered = finding["remedy"]
    assert (offered["id"], offered["risk"], offered["target"]) == ("containers.restart_service", "disruptive", sick)
    before = inspect(sick)["State"]["StartedAt"]
    said = remedy("restart_service", tmp_path, check=True, evidence=offered["vars"])
    assert '"result": "planned"' in said
    assert inspect(sick)["State"]["StartedAt"] == before
    remedy("restart_service", tmp_path, evidence=offered["vars"])
    assert inspect(sick)["State"]["Health"]["Status"] == "healthy"
    assert look(app) == {}
    after = inspect(sick)["State"]["StartedAt"]
    assert run_module("container_restart", offered["vars"])["containers"][0]["result"] == "changed_meanwhile"
    assert inspect(sick)["State"]["StartedAt"] == after


def test_the_remedy_is_denied_for_the_protected(app):
    options = (*SOUND, *healthcheck("false"))
    sick = [
        app.run("kept", options=options, labels={"tracktion.ops.protected": "true"}),
        app.run("vault", options=options),
    ]
    for name in sick:
        wait_for(name, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy")
    found = sound(look(app, containers_deny=["vault"])["containers.unhealthy"])
    assert [finding["remedy"]["denied"] for finding in found] == [True, True]


@pytest.fixture
def images(tmp_path):
    """Makes images without a name, gone after the test."""
    made = []

    def make(label="tracktion.lab=containers"):
        (tmp_path / "content").write_bytes(os.urandom(4096))
        subprocess.run(["tar", "-cf", tmp_path / "image.tar", "-C", tmp_path, "content"], check=True)
        made.append(docker("import", "--change", "LABEL %s" % label, str(tmp_path / "image.tar")).strip())
        return made[-1]

    yield make
    attempt("docker", "rmi", *made)


def exists(image):
    return attempt("docker", "image", "inspect", image).returncode == 0


def test_images_without_a_name_are_told_and_go(app, images, tmp_path):
    image, kept, denied = images(), images("tracktion.ops.protected=true"), images()
    used = images()
    app.containers.append("%s-user" % app.name)
    docker("create", "--name", app.containers[-1], "--label", "%s=containers" % LABEL, used, "sleep")
    # Nobody else's images are at stake: those are older.
    mine = {"containers_prune_age_seconds": 0, "containers_deny": [name[7:19] for name in others_than(image)]}
    assert denied[7:19] in mine["containers_deny"]
    found = look(app, containers_reclaimable_info=1, containers_reclaimable_warning=1, **mine)
    (finding,) = sound(found["containers.reclaimable"])
    assert finding["remedy"]["id"] == "containers.prune_images"
    said = remedy("prune_images", tmp_path, check=True, **mine)
    assert '-        "image %s"' % image[7:19] in said
    assert exists(image)
    remedy("prune_images", tmp_path, **mine)
    assert not exists(image)
    assert exists(kept)
    assert exists(used)
    assert exists(denied)
    again = {"kinds": ["images"], "older_than": 0, "deny": mine["containers_deny"]}
    assert run_module("docker_prune", again)["changed"] is False


def others_than(image):
    listed = docker("images", "--all", "--quiet", "--no-trunc", "--filter", "dangling=true").split()
    return [each for each in listed if each != image]


def test_young_images_stay(images):
    image = images()
    assert run_module("docker_prune", {"kinds": ["images"], "older_than": 3e8})["changed"] is False
    assert exists(image)


def test_stopped_containers_of_no_service_are_told_and_go(app, tmp_path):
    stray, kept = (started_by_hand(app, *label) for label in ((), ("--label", "tracktion.ops.protected=true")))
    service = app.run("migration", "true")
    for name in (stray, kept, service):
        wait_for(name, "done", lambda state: state["Status"] == "exited")
    deny = [name for name in docker("ps", "--all", "--format", "{{.Names}}").split() if name not in (stray, kept)]
    mine = {"containers_prune_age_seconds": 0, "containers_deny": deny}
    found = look(app, containers_stopped_bytes_info=0, **mine)
    assert sound(found["containers.stopped_space"])[0]["remedy"]["id"] == "containers.prune_stopped"
    assert "container %s" % stray in remedy("prune_stopped", tmp_path, check=True, **mine)
    remedy("prune_stopped", tmp_path, **mine)
    left = docker("ps", "--all", "--format", "{{.Names}}").split()
    assert stray not in left
    assert {kept, service} <= set(left)
    again = {"kinds": ["containers"], "older_than": 0, "deny": deny}
    assert run_module("docker_prune", again)["changed"] is False


def started_by_hand(app, *options):
    """A container as `docker run` leaves it, without the labels of compose."""
    name = "%s-stray-%d" % (app.name, len(app.containers))
    app.containers.append(name)
    image = inspect(app.run("model", "true"))["Config"]["Image"]
    docker("run", "--name", name, "--label", "%s=containers" % LABEL, *options, image, "true")
    return name


@pytest.fixture
def volumes(app):
    """Three volumes: one that nobody uses, one that a container has, and a protected one."""
    names = ["%s-%s" % (app.name, name) for name in ("unused", "used", "protected")]
    for name in names:
        protected = ["--label", "tracktion.ops.protected=true"] if name.endswith("-protected") else []
        docker("volume", "create", "--label", "%s=containers" % LABEL, *protected, name)
    app.run("keeper", "true", options=("--volume", "%s:/data" % names[1]))
    yield names
    app.remove()
    attempt("docker", "volume", "rm", *names)


def test_volumes_that_nobody_uses_are_told_and_go_by_name_only(app, volumes):
    (finding,) = sound(look(app, containers_unused_volumes_info=0)["containers.unused_volumes"])
    assert finding["remedy"] is None
    assert "names" in run_module("docker_prune", {"kinds": ["volumes"]})["msg"]
    named = {"kinds": ["volumes"], "names": volumes}
    planned = run_module("docker_prune", named, check=True)
    assert {each["name"]: each["result"] for each in planned["removed"]} == {volumes[0]: "planned", volumes[1]: "kept"}
    assert left_of(volumes) == set(volumes)
    done = run_module("docker_prune", named)
    # What a container has, the engine keeps.
    assert {each["name"]: each["result"] for each in done["removed"]} == {volumes[0]: "removed", volumes[1]: "kept"}
    assert left_of(volumes) == set(volumes[1:])
    assert run_module("docker_prune", named)["changed"] is False


def left_of(names):
    return set(docker("volume", "ls", "--format", "{{.Name}}").split()) & set(names)


# A stack as the real one: containers with names of their own, a file of another name, a service that has done its work.
REAL = """
services:
  web:
    image: {image}
    container_name: {name}-the-web
    command: [sleep, infinity]
    init: true
    restart: always
    mem_limit: {limit}
    labels: {{{label}: containers}}
  migration:
    image: {image}
    command: ["true"]
    labels: {{{label}: containers}}
"""


@pytest.fixture
def real(app, tmp_path):
    """A project that compose itself has brought up, and a function that writes its file."""
    image = inspect(app.run("model", "true"))["Config"]["Image"]
    path, name = tmp_path / "docker-compose.yaml", app.name

    def write(limit="64m"):
        path.write_text(REAL.format(image=image, name=name, limit=limit, label=LABEL))

    write()
    app.write, app.name = write, "%s-real" % app.name
    options = (*compose_command(), "--project-name", app.name, "--file", str(path))
    run(*options, "up", "--detach")
    app.web = "%s-the-web" % name
    yield app
    attempt(*options, "down", "--volumes", timeout=60)


def test_a_stack_that_compose_made_is_quiet_but_for_what_it_lacks(real):
    wait_until(lambda: not docker("ps", "--quiet", "--filter", "name=%s-migration" % real.name), "the migration", 20)
    assert {check: [each["object"] for each in found] for check, found in look(real).items()} == {
        "containers.no_healthcheck": [real.web]
    }


def test_a_change_of_the_compose_file_is_told_and_applied(real, tmp_path):
    real.write(limit="96m")
    (finding,) = sound(look(real)["containers.compose_drift"])
    offered = finding["remedy"]
    assert (offered["id"], offered["risk"], offered["denied"]) == ("containers.recreate", "disruptive", False)
    settings = {"containers_compose_command": list(compose_command())}
    before = inspect(real.web)
    said = remedy("recreate", tmp_path, check=True, evidence=offered["vars"], **settings)
    assert '+        "memory_limit_set": %d' % (96 << 20) in said
    assert inspect(real.web)["Id"] == before["Id"]
    remedy("recreate", tmp_path, evidence=offered["vars"], **settings)
    assert inspect(real.web)["HostConfig"]["Memory"] == 96 << 20
    assert "containers.compose_drift" not in look(real)
    # Neither the old evidence nor the new one is a reason to do it again.
    made = inspect(real.web)["Id"]
    assert run_module("container_recreate", offered["vars"])["result"] == "changed_meanwhile"
    plain = {"project": real.name, "service": "web"}
    assert run_module("container_recreate", plain)["result"] == "as_wanted"
    assert inspect(real.web)["Id"] == made
    # What is missing is made, and nothing else is touched.
    docker("rm", "--force", real.web)
    found = look(real)
    (finding,) = sound(found["containers.compose_missing"])
    remedy("recreate", tmp_path, evidence=finding["remedy"]["vars"], **settings)
    assert inspect(real.web)["State"]["Running"]


def test_what_compose_cannot_make_fails_and_says_why(real, tmp_path):
    real.write(limit="1k")
    arguments = {"project": real.name, "service": "web", "compose_command": list(compose_command())}
    outcome = run_module("container_recreate", arguments)
    assert (outcome["failed"], outcome["result"]) == (True, "failed")
    assert "emory limit" in outcome["msg"]
    denied = run_module("container_recreate", {**arguments, "deny": ["web"]})
    assert (denied["changed"], denied["result"]) == (False, "protected")
    nowhere = run_module("container_recreate", {**arguments, "service": "nothing"})
    assert "service: nothing is not in" in nowhere["msg"]
