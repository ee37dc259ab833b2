# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outputs of a report: files beside ``report.json``, made from it alone. Private to this collection."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
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


def make(report: Report, names: Iterable[str], warn: Callable[[str], object]) -> dict[str, str]:
    """Return the texts of outputs by name. What cannot be made is a warning: the run goes on."""
    wanted = list(dict.fromkeys(names))
    shown = cleaned(report) if wanted else report
    texts = {}
    for name in wanted:
        try:
            texts[name] = render(shown, name)
        except Exception as exc:  # pylint: disable=broad-except
            # report.json and the terminal have the report.
            warn(clean("outputs: %s cannot be made: %s: %s" % (name, type(exc).__name__, exc)))
    return texts


def write(texts: Mapping[str, str], directory: str, warn: Callable[[str], object]) -> dict[str, str]:
    """Write outputs to files, and return their paths by name. What cannot be written is a warning."""
    written = {}
    for name, text in texts.items():
        path = os.path.join(directory, NAMES[name].file)
        try:
            opened, file = _safe_files.beside(path, make=True, trusted=_safe_files.behind_sudo())
            with opened:
                opened.replace(file, text.encode("utf-8", "backslashreplace"), mode=_report_file.MODE)
            written[name] = path
        except OSError as exc:
            warn(clean("outputs: %s cannot be written: %s" % (path, exc.strerror or exc)))
    return written
