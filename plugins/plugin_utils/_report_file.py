# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports as files on the controller, and as stats, which outlive it in AWX. Private to this collection."""

from __future__ import annotations

import json
import os
import tempfile


def previous(path, schema_version):
    """The report of the run before, or None where there is none or it cannot be used."""
    try:
        with open(path, encoding="utf-8") as stream:
            report = json.load(stream)
        return report if report.get("schema_version") == schema_version else None
    except (OSError, ValueError, AttributeError):
        return None


def write(report, path):
    """Put the report in place in one step: a reader never sees half of it."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".report")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(report, stream, indent=2, ensure_ascii=False)
            stream.write("\n")
        os.chmod(temporary, 0o640)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def keep(report, path, display):
    """Where the report was written to, or None: a full disk must not cost the person at the terminal the diagnosis."""
    try:
        write(report, path)
    except OSError as exc:
        display.warning("directory: the report cannot be written to %s: %s" % (path, exc.strerror))
        return None
    return path


def stats(name, summary):
    """What an action returns so that ``summary`` is handed out as by set_stats."""
    return {"data": {name: summary}, "per_host": False, "aggregate": True}
