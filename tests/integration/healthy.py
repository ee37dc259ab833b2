# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Healthy servers and stacks of unusual kinds: no finding is above info, and nothing is unknown without a reason."""

from __future__ import annotations


def findings_of(found):
    """Return the findings of a diagnosis as one list, whether it is a list or a mapping by id."""
    return [each for group in found.values() for each in group] if isinstance(found, dict) else list(found)


def assert_quiet(case, found, unknown=()):
    """Print the findings about a healthy server. Fail if one is above info, or is unknown and not in ``unknown``."""
    rows = findings_of(found)
    infos = [row for row in rows if row["status"] == "info"]
    wrong = [row for row in rows if row not in infos and (row["status"] != "unknown" or row["id"] not in unknown)]
    print("%-40s above info: %d, info: %s" % (case, len(wrong), ", ".join(sorted({row["id"] for row in infos}))))
    assert not wrong, [(case, row["status"], row["id"], row["object"], row["summary"]) for row in wrong]
