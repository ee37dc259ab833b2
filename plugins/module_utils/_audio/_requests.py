# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packs the probe program with its request, and reads its answer. Private to this collection."""

from __future__ import annotations

import base64
import importlib.util
import json
import zlib
from typing import TYPE_CHECKING, Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _program
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, cut
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

if TYPE_CHECKING:
    # Sent to the host because they are named here, and never imported there: only their sources are needed.
    from ansible_collections.tracktion.ops.plugins.module_utils._audio import (  # noqa: F401
        _decoding,
        _guard,
        _headers,
        _leftovers,
        _references,
        _session,
        _surroundings,
    )

PACKAGE = "ansible_collections.tracktion.ops.plugins.module_utils._audio."
# In the order of their imports. Those of the steps are sent only for steps.
ALWAYS = ("_guard", "_surroundings")
STEPS = ("_headers", "_references", "_decoding", "_session")
DELETE = ("_leftovers",)
# Unpacks the sources as modules of the same names, without a file, and runs the last one.
BOOTSTRAP = """\
import base64,json,sys,types,zlib
d=json.loads(zlib.decompress(base64.b64decode(sys.argv[1])))
for n,t in d["sources"]:
    p=n.split(".")
    for i in range(1,len(p)):
        q=".".join(p[:i])
        if q not in sys.modules:
            sys.modules[q]=types.ModuleType(q);sys.modules[q].__path__=[]
    m=types.ModuleType(n);sys.modules[n]=m
    exec(compile(t,n,"exec"),m.__dict__)
    setattr(sys.modules[".".join(p[:-1])],p[-1],m)
m.main(d["request"])
"""
# The kernel's limit of one argument (MAX_ARG_STRLEN).
MAX_ARGUMENT = 131072
# Fewer free bytes do not suffice to import the library (140 MB) and to decode a reference.
LEAST_MEMORY = 200 << 20
# The tempos of the references: the octaves of neither are within the range of the other (60 comes out as 120).
TEMPOS = (90, 140)


def program(options: Options, seconds: float, deep: bool) -> Part:
    """Return the request of the program. ``seconds``: the time for all of it."""
    return {
        "seconds": seconds,
        "step_seconds": options["step_seconds"],
        "library": options["library"],
        "temporary": {
            "temporary": options["temporary_directory"],
            "patterns": options["temporary_patterns"],
            "leftover_seconds": options["leftover_seconds"],
            "top": options["top"],
        },
        "music": {
            "directories": options["directories"],
            "settings": options["directory_settings"],
            "candidates": options["directory_candidates"],
            "extensions": [each.lower() for each in options["extensions"]],
            "walk_seconds": min(options["walk_seconds"], seconds / 2),
            "top": options["top"],
        },
        "settings": [{"environment": row["environment"], "path": row["path"]} for row in options["settings"]],
        "deep": deep,
        "files": options["files"],
        "formats": options["formats"],
        "tempos": TEMPOS,
        "memory": options["step_memory"],
        "least_memory": LEAST_MEMORY,
        "load_call": options["load_call"],
        "bpm_call": options["bpm_call"],
        "bpm_result": options["bpm_result"],
        "key_call": options["key_call"],
        "key_result": options["key_result"],
        "sample_rate": options["sample_rate"],
        # Encoders add some frames of silence, and a header may round to a second.
        "tolerance": 0.02,
        "tolerance_seconds": 1.0,
        # -80 dBFS.
        "silent_peak": 0.0001,
    }


def argv(python: str, request: Mapping[str, Any]) -> list[str]:
    """Return the command line that runs the program with an interpreter. Raises CannotConnect if it is too long."""
    others = STEPS if _program.has_steps(request) else DELETE if request.get("delete") else ()
    names = [PACKAGE + name for name in (*ALWAYS, *others, "_program")]
    document = {"sources": [[name, source(name)] for name in names], "request": request}
    packed = base64.b64encode(zlib.compress(json.dumps(document).encode("utf-8"))).decode("ascii")
    if len(packed) >= MAX_ARGUMENT:
        raise CannotConnect("too_large", "the request has %d bytes" % len(packed), "Name fewer `files`.")
    return [python, "-c", BOOTSTRAP, packed]


def source(name: str) -> str:
    """Return the source of a module of this collection, from a file, a zip file, or as the visit has sent it."""
    spec: Any = importlib.util.find_spec(name)
    return str(spec.loader.get_source(name))


def answer(output: bytes, exit_code: int | None) -> Part:
    """Return what the program has measured. Raises CannotConnect if its output holds no answer."""
    text = output.decode("utf-8", "replace")
    for line in text.splitlines():
        if line.startswith(_program.MARK):
            try:
                found = json.loads(line[len(_program.MARK) :])
            except ValueError:
                break
            if isinstance(found, dict) and {"memory", "deleted", "failed"} & set(found):
                return found
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    reason = cut(redact(last), 200) if last else "no output"
    raise CannotConnect("failed", "the probe ended with exit code %s: %s" % (exit_code, reason))
