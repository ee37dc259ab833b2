# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""inotify_limits with the running kernel: counting and raising. Every limit is restored."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sysctl
from tests.integration import inotify_faults as faults
from tests.integration.areas import diagnose, fired
from tests.integration.inotify_faults import LIMITS, OTHER_UID
from tests.integration.modules import run_module, run_module_in_container
from tests.integration.playbooks import LOCAL, inventory
from tests.lab.images import ensure_image

DROP_IN = "/etc/sysctl.d/60-tracktion-inotify.conf"
WATCHES = "fs.inotify.max_user_watches"


def limit(name):
    return int((LIMITS / name).read_text())


@pytest.fixture
def folders():
    """Yield forty directories that every user can watch."""
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        names = [os.path.join(root, str(number)) for number in range(40)]
        for name in names:
            os.mkdir(name)
        yield names


@pytest.fixture
def kernel():
    """Lock the limits of the kernel for one test and restore them; yield a function that reads one."""
    with faults.limits_put_back():
        yield limit


def user(result, uid=OTHER_UID):
    return next((user for user in result["users"] if user["uid"] == uid), None)


# Measuring


def test_the_limits_are_those_of_the_kernel():
    result = run_module("inotify_limits")
    assert {entry["name"]: entry["runtime"] for entry in result["limits"]} == {
        name: limit(name) for name in ("max_user_watches", "max_user_instances", "max_queued_events")
    }
    assert result["reachable"] is True
    assert result["changed"] is False


def test_use_is_counted_for_each_user(folders):
    with faults.watching(folders, OTHER_UID, instances=3) as pid, faults.watching(folders[:5], OTHER_UID):
        result = run_module("inotify_limits")
    found = user(result)
    assert (found["watches"], found["instances"], found["processes"]) == (125, 4, 2)
    assert found["watches_left"] == limit("max_user_watches") - 125
    (process,) = [process for process in result["processes"] if process["pid"] == pid]
    assert (process["watches"], process["instances"], process["shared_with"]) == (120, 3, [])


def test_the_instances_left_can_be_created(folders, kernel):
    """As many instances as reported can be added, and not one more."""
    with faults.watching(folders, OTHER_UID, instances=2):
        left = user(run_module("inotify_limits"))["instances_left"]
        with faults.watching([], OTHER_UID, instances=left):
            full = user(run_module("inotify_limits"))
            assert (full["instances"], full["instances_left"]) == (kernel("max_user_instances"), 0)
            assert full["instances_ratio"] == 1.0
            tried = run_module(
                "file_events_info", {"directories": folders[:1]}, before=partial(faults.become, OTHER_UID)
            )
    assert tried["directories"][0]["event"]["error"]["kind"] == "instance_limit"


def test_an_instance_shared_by_forks_is_counted_once(folders):
    with faults.watching(folders, OTHER_UID, instances=2, forks=3) as pid:
        result = run_module("inotify_limits")
    found = user(result)
    assert (found["watches"], found["instances"], found["processes"]) == (80, 2, 1)
    (process,) = [process for process in result["processes"] if process["uid"] == OTHER_UID]
    assert process["pid"] == pid
    assert len(process["shared_with"]) == 3
    assert result["scan"]["descriptors"] >= 8


def test_watches_in_a_user_namespace_are_charged_to_its_owner(folders):
    words = ["setpriv", "--reuid", str(OTHER_UID), "--regid", str(OTHER_UID), "--clear-groups", "unshare", "-Ur"]
    code = (
        "import ctypes, sys, time; libc = ctypes.CDLL(None); fd = libc.inotify_init1(0); "
        "[libc.inotify_add_watch(fd, path.encode(), 256) for path in sys.argv[1:]]; print('ready', flush=True); "
        "time.sleep(60)"
    )
    with faults.program(*words, faults.python(), "-c", code, *folders, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert user(run_module("inotify_limits"))["watches"] == 40


def test_the_container_and_its_service_are_reported(folders):
    image = ensure_image("bookworm")
    name = "tracktion-test-inotify-%d" % os.getpid()
    code = (
        "import ctypes, time; libc = ctypes.CDLL(None); libc.inotify_add_watch(libc.inotify_init1(0), b'/etc', 256); "
        "print('ready', flush=True); time.sleep(60)"
    )
    labels = ["--label", "com.docker.compose.service=watcher", "--label", "com.docker.compose.project=music"]
    words = ["docker", "run", "--rm", "--name", name, "--user", str(OTHER_UID), *labels, image, "python3", "-c", code]
    try:
        with faults.program(*words, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            result = run_module("inotify_limits")
    finally:
        subprocess.run(["docker", "rm", "--force", name], stdout=subprocess.DEVNULL, check=True, timeout=30)
    (found,) = [process for process in result["processes"] if process["uid"] == OTHER_UID]
    assert (found["container"], found["service"], found["project"]) == (name, "watcher", "music")
    assert re.fullmatch("[0-9a-f]{64}", found["container_id"])
    assert found["command"] == "python3 -c"
    (holder,) = user(result)["holders"]
    assert (holder["name"], holder["container"], holder["instances"], holder["unit"]) == ("watcher", name, 1, None)


def test_without_privilege_the_use_of_other_users_is_unknown(folders):
    other_uid = pwd.getpwnam("nobody").pw_uid
    with faults.watching(folders, OTHER_UID), faults.watching(folders[:3], other_uid):
        result = run_module("inotify_limits", before=partial(faults.become, other_uid))
    assert user(result, other_uid)["watches"] == 3
    assert user(result, OTHER_UID) is None
    (others,) = [entry for entry in result["users"] if entry["uid"] is None]
    assert others["watches"] is None
    assert others["watches_left"] is None
    assert others["unreadable_processes"] > 0
    assert result["memory"]["bytes"] is None
    assert "--become" in result["unknown"][0]["hint"]


def test_in_a_container_the_use_is_unknown():
    result = run_module_in_container(ensure_image("trixie"), "inotify_limits")
    assert [entry["watches"] for entry in result["users"]] == [None]
    assert "container" in result["scan"]["reason"]
    assert result["limits"][0]["runtime"] == limit("max_user_watches")


def test_processes_that_end_during_the_scan_are_skipped(folders):
    code = "import os\nwhile True:\n pid = os.fork()\n if not pid: os._exit(0)\n os.waitpid(pid, 0)"
    with faults.program(faults.python(), "-c", code), faults.watching(folders, OTHER_UID):
        for _attempt in range(10):
            result = run_module("inotify_limits")
            assert user(result)["watches"] == 40


def test_an_expired_deadline_is_reported():
    result = run_module("inotify_limits", {"deadline": 0})
    assert "deadline" in result["unknown"][0]["reason"]
    assert [entry["watches"] for entry in result["users"]] == [None]


def test_a_machine_without_inotify():
    result = run_module("inotify_limits", before=faults.hide_inotify)
    assert result["reachable"] is False
    assert result["error"]["kind"] == "no_inotify"
    assert result["users"] is None


def test_the_files_are_read_in_the_order_of_procps():
    """The real sysctl lists the files that it reads, in the same container."""
    image = ensure_image("trixie")
    script = (
        "mkdir -p /run/sysctl.d /usr/local/lib/sysctl.d; k=fs.inotify.max_user_watches; "
        "echo $k=1 >/etc/sysctl.d/50-b.conf; echo $k=2 >/run/sysctl.d/50-b.conf; "
        "echo $k=3 >/usr/local/lib/sysctl.d/70-c.conf; echo $k=4 >/usr/lib/sysctl.d/60-d.conf; "
        "echo $k=5 >/etc/sysctl.conf; echo $k=6 >/etc/sysctl.d/60-d.conf.off; "
    )
    with tempfile.TemporaryDirectory() as root:
        done = subprocess.run(
            ["docker", "run", "--rm", "--volume", root + ":/copy", image, "sh", "-c"]
            + [script + "tar -c /etc/sysctl.d /run/sysctl.d /usr/local/lib/sysctl.d /usr/lib/sysctl.d /etc/sysctl.conf "
               "2>/dev/null | tar -x -C /copy; sysctl --system 2>&1"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )  # fmt: skip
        read = re.findall(r"^\* Applying (\S+) \.\.\.$", done.stdout, re.MULTILINE)
        assert "/etc/sysctl.d/50-b.conf" in read
        assert _sysctl.files(root, _sysctl.PROCPS) == read


# Raising


@pytest.fixture
def root(tmp_path):
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    return tmp_path


def raising(root, **floors):
    return {"state": "raised", "sysctl_root": str(root), **floors}


def test_check_mode_change_and_second_run(root, kernel):
    before = kernel("max_user_watches")
    arguments = raising(root, max_user_watches=before + 100, max_user_instances=kernel("max_user_instances") + 10)
    file = root / DROP_IN.lstrip("/")

    first = run_module("inotify_limits", arguments, check=True, diff=True)
    assert first["changed"] is True
    assert kernel("max_user_watches") == before
    assert not file.exists()

    second = run_module("inotify_limits", arguments, diff=True)
    assert second["changed"] is True
    assert second["diff"] == first["diff"]
    assert second["raised"] == first["raised"]
    assert kernel("max_user_watches") == before + 100
    assert "%s = %d\n" % (WATCHES, before + 100) in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644
    assert os.listdir(file.parent) == [file.name]
    assert second["diff"][1]["after"] == file.read_text()
    entry = second["limits"][0]
    assert (entry["runtime"], entry["persisted"], entry["file"]) == (before + 100, before + 100, DROP_IN)

    written = file.stat().st_mtime_ns
    for check in (True, False):
        again = run_module("inotify_limits", arguments, check=check, diff=True)
        assert again["changed"] is False
        assert again["diff"] == []
    assert file.stat().st_mtime_ns == written


def test_nothing_is_ever_lowered(root, kernel):
    before = kernel("max_user_watches")
    result = run_module("inotify_limits", raising(root, max_user_watches=10, max_user_instances=1))
    assert result["changed"] is False
    assert kernel("max_user_watches") == before
    # Nor at the next boot: the drop-in has at least the current value.
    run_module("inotify_limits", raising(root, max_user_watches=before))
    written = (root / DROP_IN.lstrip("/")).read_text()
    assert int(re.search(WATCHES + r" = (\d+)", written).group(1)) >= before


def test_auto_raises_to_twice_the_use_if_that_is_more(root, kernel):
    before = kernel("max_user_instances")
    used = before // 2 + 1
    arguments = raising(root, max_user_instances="auto", max_user_watches="auto")
    with faults.watching([], OTHER_UID, instances=used):
        first = run_module("inotify_limits", arguments, check=True)
        assert kernel("max_user_instances") == before
        second = run_module("inotify_limits", arguments)
        for check in (True, False):
            assert run_module("inotify_limits", arguments, check=check)["changed"] is False
    why = second["raised"]["automatic"]["max_user_instances"]
    assert why["used_at_least"] >= used
    assert kernel("max_user_instances") == why["floor"] >= 2 * used
    assert "max_user_instances = %d\n" % why["floor"] in (root / DROP_IN.lstrip("/")).read_text()
    assert first["raised"]["after"] == second["raised"]["after"]
    assert second["limits"][1]["floor"] == why["floor"]
    # The default of the kernel is neither raised nor written.
    assert WATCHES not in (root / DROP_IN.lstrip("/")).read_text()


def test_auto_uses_the_share_of_memory(root, kernel):
    before = kernel("max_user_watches")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # The memory for one watch more than the current limit.
    share = (before + 1) * 1800 / memory + 1e-9
    result = run_module("inotify_limits", raising(root, max_user_watches="auto", memory_share=share))
    assert result["raised"]["automatic"]["max_user_watches"]["by_memory"] == kernel("max_user_watches") == before + 1


def test_auto_needs_root(root, kernel):
    before = kernel("max_user_watches")
    result = run_module(
        "inotify_limits", raising(root, max_user_watches="auto"), before=partial(faults.become, OTHER_UID)
    )
    assert result["failed"] is True
    assert "auto needs the use of all users" in result["msg"]
    assert "become: true" in result["msg"]
    assert kernel("max_user_watches") == before


def test_a_runtime_value_that_drifted_is_raised_again(root, kernel):
    floor = kernel("max_queued_events") + 100
    run_module("inotify_limits", raising(root, max_queued_events=floor))
    (LIMITS / "max_queued_events").write_text(str(floor - 50))
    again = run_module("inotify_limits", raising(root, max_queued_events=floor))
    assert again["changed"] is True
    assert kernel("max_queued_events") == floor


def test_a_file_that_undoes_a_floor_is_named_and_the_task_fails(root, kernel):
    later = root / "etc/sysctl.d/99-other.conf"
    later.write_text("# theirs\nfs/inotify/max_user_watches = 8192\n")
    arguments = raising(root, max_user_watches=kernel("max_user_watches") + 100)
    for check in (True, False, True):
        result = run_module("inotify_limits", arguments, check=check)
        assert result["failed"] is True
        assert "line 2 of /etc/sysctl.d/99-other.conf" in result["msg"]
    assert kernel("max_user_watches") == arguments["max_user_watches"]
    assert later.read_text().startswith("# theirs\n")
    later.write_text("")
    assert "failed" not in run_module("inotify_limits", arguments)


def test_a_broken_file_is_reported_and_the_limit_raised(root, kernel):
    (root / "etc/sysctl.d/10-broken.conf").write_bytes(b"# caf\xe9\nthis is no setting\n")
    result = run_module("inotify_limits", raising(root, max_user_watches=kernel("max_user_watches") + 1))
    assert result["changed"] is True
    (line,) = result["broken_lines"]
    assert (line["file"], line["line"], line["text"]) == ("/etc/sysctl.d/10-broken.conf", 2, "this is no setting")


def test_raising_needs_root(root, kernel):
    os.chmod(root, 0o755)
    for folder in [root, *root.parents]:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o001)
    before = kernel("max_user_watches")
    result = run_module(
        "inotify_limits", raising(root, max_user_watches=before + 1), before=partial(faults.become, OTHER_UID)
    )
    assert result["failed"] is True
    assert "become: true" in result["msg"]
    assert kernel("max_user_watches") == before


def test_in_an_ordinary_container_nothing_is_changed():
    before = limit("max_user_watches")
    arguments = {"state": "raised", "max_user_watches": before + 1}
    result = run_module_in_container(ensure_image("bookworm"), "inotify_limits", arguments)
    assert result["changed"] is False
    assert "failed" not in result
    assert "read-only" in result["raised"]["skipped_reason"]
    assert result["raised"]["after"] == {"max_user_watches": before}
    assert limit("max_user_watches") == before


def test_a_maintenance_container_raises_the_limits_of_its_host(root, kernel):
    before = kernel("max_user_watches")
    arguments = {"state": "raised", "max_user_watches": before + 7, "sysctl_root": "/host"}
    options = ["--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined"]
    options += ["--security-opt=systempaths=unconfined", "--volume=%s:/host" % root]
    result = run_module_in_container(ensure_image("trixie"), "inotify_limits", arguments, options)
    assert result["changed"] is True
    assert kernel("max_user_watches") == before + 7
    assert "%s = %d\n" % (WATCHES, before + 7) in (root / DROP_IN.lstrip("/")).read_text()


def test_a_masked_drop_in_is_rejected_before_any_change(root, kernel):
    before = kernel("max_user_watches")
    (root / DROP_IN.lstrip("/")).symlink_to("/dev/null")
    result = run_module("inotify_limits", raising(root, max_user_watches=before + 1))
    assert result["failed"] is True
    assert "/dev/null" in result["msg"]
    assert kernel("max_user_watches") == before


@pytest.mark.parametrize(
    "arguments", [{"max_user_watches": 0}, {"max_user_watches": 1 << 31}, {"max_user_watches": "many"}, {}]
)
def test_an_invalid_floor_is_rejected(root, arguments):
    result = run_module("inotify_limits", raising(root, **arguments))
    assert result["failed"] is True
    assert "max_user_watches" in result["msg"]


def test_the_remedys_task_file_raises_the_limits(root, kernel, tmp_path):
    """Like the command of a finding: in check mode, then for real, then in check mode again."""
    before = kernel("max_queued_events")
    hosts = inventory(tmp_path / "hosts.yml", {"here": LOCAL})
    command = [str(Path(sys.executable).with_name("ansible")), "here", "-i", str(hosts)]
    command += ["-m", "ansible.builtin.include_role"]
    command += ["-a", "name=tracktion.ops.file_watching tasks_from=remediate/raise_limits"]
    settings = {
        "file_watching_sysctl_root": str(root),
        "file_watching_max_user_watches": 1,
        "file_watching_max_user_instances": 1,
        "file_watching_max_queued_events": before + 3,
    }
    command += ["-e", str(settings)]
    outcomes = []
    for options in (["--check"], [], ["--check"]):
        done = subprocess.run(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout
        outcomes.append((re.search(r"CHANGED", done.stdout) is not None, kernel("max_queued_events")))
    assert outcomes == [(True, before), (True, before + 3), (False, before + 3)]


# In the state in which it is needed most


def test_limits_are_raised_while_a_user_has_no_instance_left(root, kernel):
    before = kernel("max_user_instances")
    low = dict.fromkeys(("watches", "instances"), 1)
    low = {"file_watching_max_user_" + name: floor for name, floor in low.items()}
    with faults.watching([], OTHER_UID, instances=before):
        findings = diagnose("file_watching", {**low, "file_watching_max_queued_events": 1})
        findings = fired(findings, "file_watching.instances_used", "critical")
        (finding,) = [each for each in findings if each["object"] == str(OTHER_UID)]
        assert can_watch() is False
        outcomes = []
        for check in (True, False, False):
            done = run_module("inotify_limits", raising(root, **finding["remedy"]["vars"]), check=check)
            outcomes.append((done["changed"], kernel("max_user_instances"), can_watch()))
    assert outcomes == [(True, before, False), (True, 2 * before, True), (False, 2 * before, True)]


def can_watch():
    """Whether the other user can create an inotify instance."""
    pid = os.fork()
    if pid == 0:
        faults.become(OTHER_UID)
        os._exit(faults.libc.inotify_init1(0) < 0)
    return os.waitpid(pid, 0)[1] == 0
