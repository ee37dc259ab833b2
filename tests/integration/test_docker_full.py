# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The remedies that free something, on an engine that has no space, no inodes or no addresses left."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.integration.modules import run_module
from tests.integration.runtimes import separate_engine
from tests.integration.test_docker_prune import context
from tests.lab.engine import docker
from tests.lab.shell import LabError, attempt

PROJECT = "tracktion-test-full"
FILL = {
    "space": "dd if=/dev/zero of=filler bs=64k 2> /dev/null",
    "inodes": "n=0; while : > filler.$n; do n=$((n + 1)); done 2> /dev/null",
}


class Engine:
    """An engine with a data directory of 64 MiB and 3000 inodes, and addresses for two networks."""

    def __init__(self, name, directory):
        self.name = name
        self.host = "unix://%s/docker.sock" % directory

    def docker(self, *words):
        return docker("--host", self.host, *words).strip()

    def in_data(self, script):
        return attempt("docker", "exec", "--workdir", "/var/lib/docker", self.name, "sh", "-c", script)

    def image(self):
        """Create an image without a name, and return its id."""
        command = ("docker", "--host", self.host, "import", "-")
        archive = context(data=os.urandom(8 << 20))
        done = subprocess.run(command, input=archive, capture_output=True, check=True, timeout=60)
        return done.stdout.decode().strip()

    def three_runs(self, module, **options):
        """Return the results in check mode, for real, and again."""
        options["docker_host"] = self.host
        return [run_module(module, options, check=check) for check in (True, False, False)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    directory = tmp_path_factory.mktemp("full")
    pool = {"base": "10.99.0.0/23", "size": 24}
    (directory / "daemon.json").write_text(json.dumps({"default-address-pools": [pool]}))
    options = ("--tmpfs", "/var/lib/docker:size=64m,nr_inodes=3000")
    options += ("--volume", "%s/daemon.json:/etc/docker/daemon.json:ro" % directory)
    with separate_engine(directory, *options) as name:
        yield Engine(name, directory)


@pytest.mark.parametrize("what", FILL)
def test_images_and_volumes_are_removed_from_a_full_disk(engine, what):
    image, volume = engine.image(), engine.docker("volume", "create", "lab")
    engine.in_data("dd if=/dev/urandom of=volumes/lab/_data/file bs=1M count=4")
    # Ends with an error: nothing is left.
    assert engine.in_data(FILL[what] + "; echo > more").returncode
    try:
        planned, done, again = engine.three_runs("docker_prune", kinds=["images"], older_than=0)
        assert [each["changed"] for each in (planned, done, again)] == [True, True, False], done
        assert [each["id"] for each in planned["removed"]] == [each["id"] for each in done["removed"]] == [image]
        assert done["before"]["bytes"] >= 8 << 20
        assert engine.in_data(FILL[what] + "; echo > more").returncode
        planned, done, again = engine.three_runs("docker_prune", kinds=["volumes"], names=[volume])
        assert [each["changed"] for each in (planned, done, again)] == [True, True, False], done
        assert engine.docker("volume", "ls", "--quiet") == ""
    finally:
        engine.in_data("rm -f filler* more")


def test_an_unused_network_is_removed_where_no_address_is_left(engine):
    label = "com.docker.compose.project=%s" % PROJECT
    made = [engine.docker("network", "create", "--label", label, name) for name in ("one", "other")]
    with pytest.raises(LabError, match="address pool"):
        engine.docker("network", "create", "new")
    wanted = {"name": "one", "id": made[0], "project": PROJECT}
    planned, done, again = engine.three_runs("docker_unused_network", **wanted)
    assert [each["changed"] for each in (planned, done, again)] == [True, True, False], done
    assert engine.docker("network", "create", "new")
    assert engine.docker("network", "ls", "--quiet", "--filter", "label=" + label)
