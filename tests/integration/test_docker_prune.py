# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module docker_prune on objects of a real engine."""

from __future__ import annotations

import io
import json
import os
import tarfile

import pytest

from tests.integration.containers import cached, look, own_project, sdk_client, sound
from tests.integration.modules import run_module
from tests.lab.engine import docker
from tests.lab.shell import attempt


@pytest.fixture
def engine():
    with sdk_client() as client:
        yield client


def context(**files):
    """Return the context of a build: a tar file, as bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def build(engine):
    """Build an image without a name, of two layers, by BuildKit, which the SDK does not support; return its id."""
    recipe = b"FROM scratch\nCOPY one /one\nCOPY two /two\n"
    body = context(Dockerfile=recipe, one=os.urandom(100_000), two=os.urandom(200_000))
    url = engine._url("/build")
    reply = engine.post(url, params={"version": "2"}, data=body, headers={"Content-Type": "application/x-tar"}).text
    (built,) = [line["aux"]["ID"] for line in map(json.loads, reply.splitlines()) if line.get("id") == "moby.image.id"]
    return built


@pytest.fixture
def built(engine):
    """The id of an image that was just built, and the ids of its entries in the build cache."""
    before = set(cached(engine))
    image = build(engine)
    mine = set(cached(engine)) - before
    yield image, mine
    attempt("docker", "rmi", image)
    while left := set(cached(engine)) & mine:
        for name in left:
            engine.prune_builds(filters={"id": [name]}, all=True)


def mine_only(engine, mine, **options):
    """Return options that keep all other entries of the cache."""
    return {"kinds": ["build_cache"], "older_than": 0, "deny": sorted(set(cached(engine)) - mine), **options}


def test_cache_that_an_image_shares_is_kept(engine, built):
    _image, mine = built
    shared = {name for name in mine if cached(engine)[name]["Shared"]}
    assert len(shared) == 2
    done = run_module("docker_prune", mine_only(engine, mine))
    assert {each["id"] for each in done["removed"]} == mine - shared
    assert set(cached(engine)) & mine == shared


def test_build_cache_is_found_and_removed_children_first(engine, built, tmp_path):
    image, mine = built
    docker("rmi", image)
    with own_project(tmp_path) as app:
        (finding,) = sound(look(app, containers_reclaimable_info=1)["containers.reclaimable"])
    assert finding["remedy"]["id"] == "containers.prune_images"
    assert finding["observed"]["reclaimable_bytes"] >= 300_000
    options = mine_only(engine, mine)
    assert run_module("docker_prune", {**options, "older_than": 3e8})["changed"] is False

    planned = run_module("docker_prune", options, check=True, diff=True)
    assert {(each["id"], each["result"]) for each in planned["removed"]} == {(name, "planned") for name in mine}
    assert planned["after"] == {"count": 0, "bytes": 0}
    assert mine <= set(cached(engine))

    sizes = sum(cached(engine)[name]["Size"] for name in mine)
    done = run_module("docker_prune", options)
    assert {each["result"] for each in done["removed"]} == {"removed"}
    assert done["before"] == {"count": len(mine), "bytes": sizes}
    assert not set(cached(engine)) & mine
    assert run_module("docker_prune", options)["changed"] is False


def test_the_number_of_removed_objects_is_limited(engine, built):
    image, mine = built
    docker("rmi", image)
    for left in range(len(mine) - 1, -1, -1):
        done = run_module("docker_prune", mine_only(engine, mine, max_items=1))
        assert [each["result"] for each in done["removed"]] == ["removed"]
        assert len(set(cached(engine)) & mine) == left == done["after"]["count"]
