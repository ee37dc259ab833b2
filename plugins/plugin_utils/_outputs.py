# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outputs of a report: files beside ``report.json``, made from it alone. Private to this collection."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.plugin_utils import _report_file
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean, cleaned
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Report

PACKAGE = "ansible_collections.tracktion.ops.plugins.plugin_utils."


class Output(NamedTuple):
    """The name of a file, and the module with the function ``render(report)`` that makes its text."""

    file: str
    module: str


# Modules are imported when they are used: a run without outputs does not pay for them.
NAMES = {
    "html": Output("report.html", "_html"),
    "prometheus": Output("report.prom", "_prometheus"),
    "junit": Output("report.junit.xml", "_junit"),
    "markdown": Output("report.md", "_markdown"),
}


def render(report: Report, name: str) -> str:
    """Return the text of an output. The same report gives the same text. ``report`` must be clean (``cleaned``)."""
    return str(import_module(PACKAGE + NAMES[name].module).render(report))


def write(report: Report, names: Iterable[str], directory: str, warn: Callable[[str], object]) -> dict[str, str]:
    """Write outputs to files, and return their paths by name. What fails is a warning: the run goes on."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return {}
    shown = cleaned(report)
    written = {}
    for name in wanted:
        path = os.path.join(directory, NAMES[name].file)
        try:
            content = render(shown, name).encode("utf-8", "backslashreplace")
            opened, file = _safe_files.beside(path, make=True, trusted=_safe_files.behind_sudo())
            with opened:
                opened.replace(file, content, mode=_report_file.MODE)
        except OSError as exc:
            warn(clean("outputs: %s cannot be written: %s" % (path, exc.strerror or exc)))
            continue
        except Exception as exc:  # pylint: disable=broad-except
            # report.json and the terminal have the report.
            warn(clean("outputs: %s cannot be made: %s: %s" % (name, type(exc).__name__, exc)))
            continue
        written[name] = path
    return written
