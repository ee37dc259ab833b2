# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Networks that compose files give to containers."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_networks
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import Host
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

COMPOSE = "com.docker.compose."
TEXT = """
services:
  web: {networks: [front, back]}
  db:
    networks:
      back: {aliases: [primary, "${ALIAS}"]}
  vault: {networks: [secret]}
  lone: {network_mode: none}
  open: {networks: ["${NET}"]}
  base: {}
networks:
  front: {}
  back: {name: shared-back}
  secret: {}
"""


class Engine:
    """The files of an engine: networks and the network mode by service."""

    def __init__(self, folder, **networks):
        (folder / "compose.yaml").write_text(TEXT)
        self.folder, self.networks = folder, networks

    def all(self):
        return [
            {"id": name, "name": "stack-%s-1" % name, "service": name, "project": "stack", "state": "running"}
            | {"exit_code": 0, "one_off": False}
            for name in self.networks
        ]

    def file(self, identity, name):
        networks, mode = self.networks[identity]
        labels = {COMPOSE + "project": "stack", COMPOSE + "service": identity}
        labels[COMPOSE + "project.config_files"] = str(self.folder / "compose.yaml")
        labels[COMPOSE + "project.working_dir"] = str(self.folder)
        if name == "hostconfig.json":
            return {"NetworkMode": mode}
        settings = {"Networks": {each: {"IPAddress": "172.20.0.2"} for each in networks}}
        return {"Config": {"Labels": labels}, "State": {"Pid": 1}, "NetworkSettings": settings}


ALL = ("stack_front", "shared-back", "stack_secret", "stack_default", "bridge")


def common(folder, target, existing=ALL, **networks):
    host = Host(Engine(folder, **networks))
    (web,), (other,) = host.of_service("web", "stack"), host.of_service(target, "stack")
    files = _compose_networks.Files(1.0)
    found = _compose_networks.common(web, other, target, existing, files, Deadline(5))
    return found.connect, [each.service for each in found.recreate], found.apart


WEB = (["stack_front", "shared-back"], "stack_front")


@pytest.mark.parametrize(
    ("web", "db", "commands"),
    [
        # The database lost its network: it is not connected to the one of the clients.
        (WEB, ([], "shared-back"), [["--alias=db", "--alias=primary", "shared-back", "stack-db-1"]]),
        # It was connected to another one instead.
        (WEB, (["stack_secret"], "x"), [["--alias=db", "--alias=primary", "shared-back", "stack-db-1"]]),
        # The service lost it.
        ((["stack_front"], "stack_front"), (["shared-back"], "x"), [["--alias=web", "shared-back", "stack-web-1"]]),
    ],
)
def test_the_side_that_deviates_from_its_file_is_connected(tmp_path, web, db, commands):
    assert common(tmp_path, "db", web=web, db=db) == (commands, [], False)


def test_a_removed_network_comes_back_with_its_containers(tmp_path):
    found = common(tmp_path, "db", ["stack_front"], web=WEB, db=([], "shared-back"))
    assert found == ([], ["web", "db"], False)
    # The engine does not connect a container without network.
    assert common(tmp_path, "db", web=WEB, db=([], "none")) == ([], ["db"], False)


def test_a_file_may_keep_services_apart(tmp_path):
    assert common(tmp_path, "vault", web=WEB, vault=(["stack_secret"], "x")) == ([], [], True)
    assert common(tmp_path, "lone", web=WEB, lone=([], "none")) == ([], [], True)
    # A variable decides, and nothing else is known.
    assert common(tmp_path, "open", web=WEB, open=(["stack_other"], "stack_other")) == ([], [], None)


def test_without_a_file_the_network_of_the_creation_counts(tmp_path):
    connect = [["--alias=gone", "stack_front", "stack-gone-1"]]
    assert common(tmp_path, "gone", web=WEB, gone=([], "stack_front")) == (connect, [], False)
    # Names do not resolve on the network bridge.
    assert common(tmp_path, "gone", web=(["bridge"], "default"), gone=([], "bridge")) == ([], [], None)
