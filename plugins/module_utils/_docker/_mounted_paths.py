# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths of this machine that containers mount: are they there, and may the container's user read them.

Private to this collection.
"""

from __future__ import annotations

import os
import stat

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import bounded


def paths(inspected, of_files, options, deadline, unknown):
    """An entry for each path, out of the engine's inspections and of compose files (path -> services)."""
    mounted = {}
    for data in inspected:
        for mount in data.get("Mounts") or []:
            if mount.get("Type") == "bind" and mount.get("Source"):
                mounted.setdefault(mount["Source"], []).append(data)
    found = []
    for path in sorted(set(mounted) | set(of_files)):
        users = mounted.get(path, [])
        names = {data["Name"].lstrip("/") for data in users} or set(of_files[path])
        entry = {"path": path, "used_by": sorted(names), "exists": None, "uid": None, "gid": None, "mode": None}
        entry["denied"] = []
        found.append(entry)
        try:
            status = bounded(os.stat, deadline.remaining(options["timeout"]), path)
        except FileNotFoundError:
            entry["exists"] = False
        except OSError as exc:
            unknown.add("paths", "%s: %s" % (path, exc.strerror or exc))
        else:
            entry.update(exists=True, uid=status.st_uid, gid=status.st_gid)
            entry["mode"] = "%04o" % stat.S_IMODE(status.st_mode)
            entry["denied"] = [refusal for refusal in (denied(data, status) for data in users) if refusal]
    return found[: options["top"]]


def denied(data, status):
    """Whom the modes keep from reading what it mounts; null for nobody, and for a user who is known by name only."""
    user, _colon, group = ((data.get("Config") or {}).get("User") or "0").partition(":")
    added = [each for each in (data.get("HostConfig") or {}).get("GroupAdd") or [] if each.isdigit()]
    if not user.isdigit() or int(user) == 0 or (group and not group.isdigit()):
        return None
    groups = {int(each) for each in ([group] if group else []) + added}
    if may_read(int(user), groups, status):
        return None
    return {"container": data["Name"].lstrip("/"), "uid": int(user), "gids": sorted(groups)}


def may_read(uid, gids, status):
    """Whether the modes let somebody read a file, or list and enter a directory."""
    shift = 6 if uid == status.st_uid else 3 if status.st_gid in gids else 0
    needed = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    return (status.st_mode >> shift) & needed == needed
