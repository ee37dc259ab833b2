# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures whether audio files can be processed, where the audio service runs. Private to this collection.

By default one process in the container, which imports nothing of the service: it costs less than 0.2 s. The library is
imported, and audio is decoded, only for ``deep``, for ``files``, or when the result in ``state_file`` is too old.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

from ansible_collections.tracktion.ops.plugins.module_utils._audio import (
    _failed_files,
    _inside,
    _last_result,
    _pipeline,
    _requests,
    _results,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    Failure,
    OutOfTime,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

SETTING_SPEC = {
    "name": {"type": "str", "required": True},
    "environment": {"type": "str", "default": ""},
    "path": {"type": "str", "default": ""},
    "expected": {"type": "str", "required": True},
}
LOGIN_SPEC = {
    "login_host": {"type": "str"},
    "login_port": {"type": "int"},
    "login_user": {"type": "str"},
    "login_password": {"type": "str", "no_log": True},
    "timeout": {"type": "float"},
}
DATABASE_SPEC = {
    **LOGIN_SPEC,
    "query": {"type": "str", "default": ""},
    "login_db": {"type": "str"},
    "login_unix_socket": {"type": "str"},
    "ssl_mode": {"type": "str"},
    "ca_cert": {"type": "str"},
    "ssl_cert": {"type": "str"},
    "ssl_key": {"type": "str", "no_log": False},
}
STATISTICS_SPEC = {
    **LOGIN_SPEC,
    "key": {"type": "str", "default": "", "no_log": False},
    "failed": {"type": "str", "default": "total_failed"},
    "completed": {"type": "str", "default": "total_completed"},
    "tls": {"type": "bool"},
    "validate_certs": {"type": "bool"},
    "ca_certs": {"type": "str"},
    "client_cert_file": {"type": "str"},
    "client_key_file": {"type": "str", "no_log": False},
}
ARGUMENT_SPEC = {
    "service": {"type": "str", "default": ""},
    "project": {"type": "str"},
    "user": {"type": "str"},
    "python": {"type": "str", "default": ""},
    **_engine.SOCKET_SPEC,
    "directories": {"type": "list", "elements": "str", "default": []},
    "directory_settings": {"type": "list", "elements": "str", "default": []},
    "directory_candidates": {"type": "list", "elements": "str", "default": []},
    "extensions": {
        "type": "list",
        "elements": "str",
        "default": [".mp3", ".flac", ".wav", ".ogg", ".m4a", ".aac", ".aif", ".aiff", ".opus"],
    },
    "walk_seconds": {"type": "float", "default": 0.1},
    "temporary_directory": {"type": "str", "default": ""},
    "temporary_patterns": {"type": "list", "elements": "str", "default": ["tracktion_*", "audio_processing_*"]},
    "leftover_seconds": {"type": "float", "default": 86400.0},
    "longest_seconds": {"type": "float", "default": 600.0},
    "library": {"type": "str", "default": "essentia"},
    "settings": {"type": "list", "elements": "dict", "default": [], "options": SETTING_SPEC},
    "deep": {"type": "bool", "default": False},
    "state_file": {"type": "path"},
    "state_seconds": {"type": "float", "default": 86400.0},
    "formats": {
        "type": "list",
        "elements": "str",
        "choices": ["wav", "mp3", "flac", "ogg", "m4a"],
        "default": ["wav", "mp3", "flac", "ogg", "m4a"],
    },
    "load_call": {"type": "str", "default": ""},
    "bpm_call": {"type": "str", "default": ""},
    "bpm_result": {"type": "dict", "default": {}},
    "key_call": {"type": "str", "default": "", "no_log": False},
    "key_result": {"type": "dict", "default": {}, "no_log": False},
    "files": {"type": "list", "elements": "str", "default": []},
    "sample_rate": {"type": "int", "default": 44100},
    "step_seconds": {"type": "float", "default": 20.0},
    "step_memory": {"type": "int", "default": 1 << 30},
    "log_minutes": {"type": "float", "default": 15.0},
    "failed_patterns": {"type": "list", "elements": "str", "default": [_failed_files.FAILED_PATTERN]},
    "completed_pattern": {"type": "str", "default": "completed?\\b"},
    "statistics": {"type": "dict", "default": {}, "options": STATISTICS_SPEC},
    "database": {"type": "dict", "default": {}, "options": DATABASE_SPEC},
    "pending_states": {"type": "list", "elements": "str", "default": ["pending", "queued", "processing"]},
    "top": {"type": "int", "default": 20},
    "timeout": {"type": "float", "default": 5.0},
    "deadline": {"type": "float", "default": 15.0},
}

PARTS = (
    "target", "music", "temporary", "memory", "library", "settings", *_results.DEEP, "age_seconds", "files",
    "logs", "failed_files", "statistics", "pipeline",
)  # fmt: skip
MOST_FILES = 50
# Seconds of the deadline for what follows the program.
RESERVE_SECONDS = 1.0


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.audio_probe_info documents. Raises BadOption."""
    _check_options(options)
    _failed_files.compiled(options)
    deadline, unknown = Deadline(options["deadline"]), Unknown()
    began = time.monotonic()
    try:
        target, api = _inside.find(options, deadline)
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    described = _inside.describe(target, options, 0.0)
    log = _InThread(_logs, target, api, options, deadline)
    parts = _run(target, api, options, deadline, described, unknown)
    logs = log.result(deadline, unknown)
    _look(target, api, options, deadline, logs["failed_files"])
    described["seconds"] = round(time.monotonic() - began, 3)
    with_rows, with_statistics = _pipeline.of_options(options)
    return reached(
        {
            **parts,
            "target": described,
            **logs,
            "statistics": _attempt("statistics", unknown, _pipeline.statistics, options["statistics"], deadline)
            if with_statistics
            else [],
            "pipeline": _attempt("pipeline", unknown, _rows, options, parts["music"], deadline) if with_rows else [],
        },
        unknown,
    )


def _check_options(options: Options) -> None:
    for name in ("deadline", "timeout", "step_seconds", "walk_seconds", "longest_seconds", "log_minutes"):
        if not 0 < options[name] < float("inf"):
            raise BadOption("%s: must be above 0" % name, "Set `%s`." % name)
    if len(options["files"]) > MOST_FILES:
        raise BadOption("files: has more than %d entries" % MOST_FILES, "Name fewer `files`.")
    for row in options["settings"]:
        if bool(row["environment"]) == bool(row["path"]):
            raise BadOption(
                "settings: %s: exactly one of environment and path is required" % row["name"],
                "Correct `settings` of %s." % row["name"],
            )
    for path in options["files"]:
        if not path.startswith("/"):
            raise BadOption("files: %r is not an absolute path" % path, "Correct `files`.")


def _run(
    target: _inside.Target,
    api: DockerApi | None,
    options: Options,
    deadline: Deadline,
    described: Part,
    unknown: Unknown,
) -> Part:
    """Return the parts that the program measures; null, with the reason, if it does not run."""
    of = {
        "service": options["service"],
        "container": target.identity,
        "started": target.started,
        "python": target.python,
        "calls": [options[name] for name in ("library", "load_call", "bpm_call", "key_call")],
    }
    kept = None
    if options["state_file"] and not options["deep"]:
        kept = _last_result.read(options["state_file"], of, _inside.now(), options["state_seconds"])
    deep = options["deep"] or bool(options["state_file"] and kept is None)
    seconds = max(0.2, deadline.remaining() - RESERVE_SECONDS)
    inside = [_inside.inside(target, path) for path in options["files"]]
    request = _requests.program({**options, "files": inside}, seconds, deep)
    if options["database"].get("query"):
        # The number of files is compared with that of rows, so all of them are counted.
        request["music"]["walk_seconds"] = seconds / 2
    try:
        found = _inside.run(target, api, options, request, deadline)
    except Failure as exc:
        parts = {**_results.unlisted(options), **_results.as_parts(kept, deep)}
        for name in (name for name, value in parts.items() if value is None and name != "age_seconds"):
            unknown.add(name, exc)
        return parts
    described.update(uid=found["uid"], gid=found["gid"])
    if found["music_error"]:
        unknown.add("music", found["music_error"], "Check the mount of the library: `findmnt --types nfs,nfs4,cifs`")
    if deep:
        kept = {**_results.deep(found["deep"]), "age_seconds": 0.0}
        _note_missing(kept, request, unknown)
        kept["imports"] = [{**each, "keep_error": _keep(options, of, kept)} for each in kept["imports"]]
    return {
        "music": _inside.with_host_paths(target, found["music"]) if found["music"] is not None else None,
        "temporary": found["temporary"],
        "memory": _results.memory(found["memory"], target.limit, options["longest_seconds"]),
        "library": found["library"],
        "settings": _results.settings(found["settings"], options["settings"]),
        **_results.as_parts(kept, deep),
        "files": _files(found, options, inside, unknown),
    }


def _files(found: Part, options: Options, inside: list[str], unknown: Unknown) -> list[Part]:
    parts = _results.files(found["files"] or [], options["files"], inside)
    reason = (found["deep"] or {}).get("imported") or {}
    for part in parts:
        if not part["examined"]:
            why = reason.get("message") or reason.get("state")
            text = "the library could not be imported: %s" % why if reason.get("state") != "ok" else "out of time"
            unknown.add("files.%s" % part["path"], text)
    return parts


def _note_missing(deep: Part, request: Part, unknown: Unknown) -> None:
    """Add the lists that lack items, because the time was over, to ``unknown``."""
    if deep["imports"][0]["state"] != "ok":
        return
    expected = {"formats": request["formats"], "tempo_references": request["tempos"], "key_references": [""]}
    for name, wanted in {**expected, "silence_references": [""]}.items():
        if len(deep[name]) < len(wanted):
            unknown.add(name + "[...]", OutOfTime())


def _keep(options: Options, of: Part, deep: Part) -> str | None:
    """Write the result of the expensive part to ``state_file``, if there is one. Return why it cannot be written."""
    if not options["state_file"]:
        return None
    try:
        _last_result.write(options["state_file"], of, _inside.now(), deep)
    except OSError as exc:
        return _results.message(exc.strerror or str(exc))
    return None


def _logs(target: _inside.Target, api: DockerApi | None, options: Options, deadline: Deadline) -> Part | None:
    """Return the part of the log; null on the host, which has no container's log. Raises CannotConnect."""
    return _failed_files.read(api, str(target.identity), options, deadline) if api else None


class _InThread:
    """Reads the log while the program runs."""

    def __init__(self, function: Callable[..., Part | None], *arguments: Any) -> None:
        self._found: list[Part | Exception | None] = []

        def work() -> None:
            try:
                self._found.append(function(*arguments))
            except Exception as exc:  # pylint: disable=broad-except
                self._found.append(exc)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def result(self, deadline: Deadline, unknown: Unknown) -> Part:
        """Return the parts ``logs`` and ``failed_files``."""
        self._thread.join(deadline.remaining())
        log = self._found[0] if self._found else OutOfTime()
        if log is None:
            return {"logs": [], "failed_files": []}
        if isinstance(log, Exception):
            for name in ("logs", "failed_files"):
                unknown.add(name, log)
            return {"logs": None, "failed_files": None}
        if log["left_out"] or not log["complete"]:
            unknown.add("failed_files[...]", log["left_out"] or "out of time")
        return {"failed_files": log.pop("failed_files"), "logs": [log]}


def _look(
    target: _inside.Target, api: DockerApi | None, options: Options, deadline: Deadline, failed: list[Part] | None
) -> None:
    """Add to the files that failed whether they exist, and were changed since. That stays null if it is not known."""
    if not failed:
        return
    request = {"look": [each["path"] for each in failed], "seconds": deadline.remaining()}
    try:
        found = _inside.run(target, api, options, request, deadline)["failed"]
    except Failure:
        return
    for each, (exists, changed) in zip(failed, found):
        is_newer = None if changed is None or each["last_seen"] is None else changed > each["last_seen"]
        each.update(exists=exists, changed_since=is_newer)


def _rows(options: Options, music: list[Part] | None, deadline: Deadline) -> Part:
    return _pipeline.compare(_pipeline.rows(options["database"], options["pending_states"], deadline), music)


def _attempt(part: str, unknown: Unknown, function: Callable[..., Part], *arguments: Any) -> list[Part] | None:
    """Return what the function returns, in a list; null, with the reason in ``unknown``, if it fails."""
    try:
        return [function(*arguments)]
    except Failure as exc:
        unknown.add(part, exc)
        return None
