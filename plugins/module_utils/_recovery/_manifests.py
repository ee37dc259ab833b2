# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads and writes ``manifest.json`` and ``proof.json``: pure functions. Private to this collection.

A manifest on the disk has one field more, ``checksum``: that of its other fields. Without it, a changed bit in the
description of the contents would look like a difference of the restored copy.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import SCHEMA_VERSION, Manifest, Proof

CHECKSUM = "checksum"
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
RESULTS = ("proven", "different", "failed")
# Field -> types. A bool is no number here.
MANIFEST_FIELDS: dict[str, tuple[type, ...]] = {
    "schema_version": (int,),
    "kind": (str,),
    "name": (str,),
    "stamp": (str,),
    "host": (str,),
    "started": (int, float),
    "finished": (int, float),
    "server": (dict,),
    "tool": (str, type(None)),
    "collection_version": (str,),
    "source_bytes": (int, type(None)),
    "files": (list,),
    "encryption": (str, type(None)),
    "contents": (dict,),
}
SERVER_FIELDS: dict[str, tuple[type, ...]] = {
    "version": (str,),
    "version_num": (int, type(None)),
    "identity": (str, type(None)),
    "address": (str,),
    "container": (str, type(None)),
}
FILE_FIELDS: dict[str, tuple[type, ...]] = {"path": (str,), "bytes": (int,), "sha256": (str,)}
PROOF_FIELDS: dict[str, tuple[type, ...]] = {
    "schema_version": (int,),
    "result": (str,),
    "started": (int, float),
    "finished": (int, float),
    "server_version": (str, type(None)),
    "manifest_sha256": (str,),
    "differences": (list,),
    "differences_total": (int,),
    "reason": (str, type(None)),
}


def checksum(data: bytes) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def written(content: Mapping[str, Any]) -> bytes:
    """Return the content of a file of JSON."""
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def sealed(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest with its checksum."""
    return dict(manifest, **{CHECKSUM: _checksum_of(manifest)})


def parsed(text: bytes, kind: str, name: str, stamp: str) -> tuple[Manifest | None, str | None]:
    """Return the manifest in a file, or null and why it cannot be used for the backup of this kind, name and stamp."""
    try:
        content: Any = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None, "the manifest is not JSON"
    if not isinstance(content, dict):
        return None, "the manifest is not a mapping"
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return None, "the manifest has version %d; this version of the collection reads up to %d" % (
            version,
            SCHEMA_VERSION,
        )
    if content.pop(CHECKSUM, None) != _checksum_of(content):
        return None, "the manifest was changed after it was written (checksum)"
    problem = manifest_problem(content, kind, name, stamp)
    # All fields have just been checked.
    return (None, "the manifest is invalid: %s" % problem) if problem else (content, None)  # type: ignore[return-value]


def manifest_problem(manifest: Mapping[str, Any], kind: str, name: str, stamp: str) -> str | None:
    """Return why a manifest is not one of the backup of this kind, name and stamp, or null."""
    problem = _fields_problem(manifest, MANIFEST_FIELDS) or _fields_problem(
        manifest["server"], SERVER_FIELDS, "server."
    )
    if problem:
        return problem
    if manifest["schema_version"] != SCHEMA_VERSION:
        return "schema_version is %d" % manifest["schema_version"]
    if (manifest["kind"], manifest["name"], manifest["stamp"]) != (kind, name, stamp):
        return "it is the manifest of %s %s, %s" % (manifest["kind"], manifest["name"], manifest["stamp"])
    seen = set()
    for each in manifest["files"]:
        problem = _fields_problem(each, FILE_FIELDS, "files.") or _file_problem(each)
        if problem:
            return problem
        if each["path"] in seen:
            return "files names %s twice" % cut(each["path"], 100)
        seen.add(each["path"])
    return None


def _file_problem(each: Mapping[str, Any]) -> str | None:
    parts = each["path"].split("/")
    if "\0" in each["path"] or any(part in ("", ".", "..") for part in parts):
        return "files: %r is not a path below the backup" % cut(each["path"], 100)
    if each["bytes"] < 0 or not SHA256.match(each["sha256"]):
        return "files: size or checksum of %s is invalid" % cut(each["path"], 100)
    return None


def parsed_proof(text: bytes) -> tuple[Proof | None, str | None]:
    """Return the proof in a file, or null and why it cannot be used."""
    try:
        content: Any = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None, "the proof is not JSON"
    problem = proof_problem(content)
    return (None, "the proof is invalid: %s" % problem) if problem else (content, None)


def proof_problem(proof: Any) -> str | None:
    """Return why a proof is invalid, or null."""
    problem = _fields_problem(proof, PROOF_FIELDS)
    if problem:
        return problem
    if proof["schema_version"] != SCHEMA_VERSION:
        return "schema_version is %d" % proof["schema_version"]
    if proof["result"] not in RESULTS:
        return "result is %s" % cut(proof["result"], 50)
    return None if SHA256.match(proof["manifest_sha256"]) else "manifest_sha256 is no checksum"


def _fields_problem(content: Any, fields: Mapping[str, tuple[type, ...]], below: str = "") -> str | None:
    if not isinstance(content, dict):
        return "%s is not a mapping" % (below.rstrip(".") or "it")
    for field, types in fields.items():
        if field not in content:
            return "%s%s is missing" % (below, field)
        value = content[field]
        if not isinstance(value, types) or isinstance(value, bool):
            return "%s%s has a wrong type" % (below, field)
        if isinstance(value, float) and not math.isfinite(value):
            return "%s%s is not finite" % (below, field)
    return None


def _checksum_of(content: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    return checksum(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode("ascii"))
