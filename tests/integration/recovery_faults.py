# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Begins modules that tests interrupt, and damages backups: for a few tests, and for many runs of the bench."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _manifests, _scratch_container
from tests.integration.modules import IN_CONTAINER, ROOT
from tests.lab.engine import docker

ENVIRONMENT = {"PYTHONPATH": "%s:%s" % (ROOT, ROOT / "playbooks/collections")}


def begun(name, options):
    """Return a process that runs a module."""
    command = [sys.executable, "-c", IN_CONTAINER, json.dumps([name, options])]
    return subprocess.Popen(
        command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def scratch_marks():
    """Return the marks of the processes that have scratch containers (PID:HASH): of this test and of others."""
    row = '{{.Label "%s"}}' % _scratch_container.LABEL
    return docker("ps", "--all", "--filter", "label=%s" % _scratch_container.LABEL, "--format", row).split()


def bit_flipped(path, chance):
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data) * 8)
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


def truncated(path, chance):
    """Cut the end of a file."""
    with path.open("r+b") as file:
        file.truncate(chance.randrange(path.stat().st_size))


def reseal(folder, name):
    """Write a manifest with the checksum of a damaged file, as if the file had been damaged before that."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    data = (folder / name).read_bytes()
    for each in manifest["files"]:
        if each["path"] == name:
            each.update(bytes=len(data), sha256=_manifests.checksum(data))
    path.write_bytes(_manifests.written(_manifests.sealed(manifest)))


def damages(artefact, copies, number, seed, resealed=False):
    """Yield directories with a copy of a backup, each with one damaged file, and what was done.

    ``resealed``: the manifest has the checksum of the damaged file.
    """
    chance = random.Random(seed)
    original = Path(artefact.path)
    left_out = ("proof.json", "manifest.json") if resealed else ("proof.json",)
    files = [path for path in sorted(original.rglob("*")) if path.is_file() and path.name not in left_out]
    for each in range(number):
        directory = Path(copies) / str(each)
        kind = original.parents[1].name
        copy = directory / kind / original.parent.name / original.name
        shutil.copytree(original, copy)
        os.chmod(directory / kind, 0o700)
        target = copy / chance.choice(files).relative_to(original)
        damage = chance.choice([bit_flipped, truncated])
        damage(target, chance)
        if resealed:
            reseal(copy, str(target.relative_to(copy)))
        yield directory, "%s of %s" % (damage.__name__, target.name)
        shutil.rmtree(directory)
