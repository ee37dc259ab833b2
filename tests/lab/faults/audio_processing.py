# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of the files that the analysis service gets. The file watcher reports each new file, as ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..shell import attempt, wait_until
from . import fault

# A service that is stopped and started in the meantime writes its log again.
SECONDS = 60
LEFT = "/tmp/tracktion_crashed"


def failing(lab, name: str, text: bytes, mode: int) -> Iterator[None]:
    """Add a file to the library, and wait until the analysis service has failed on it."""
    path = Path(lab.watched_directory) / "incoming" / name
    # With its content and its mode from the moment at which it has its name.
    hidden = path.with_suffix(".part")
    hidden.write_bytes(text)
    hidden.chmod(mode)
    try:
        hidden.rename(path)
        inside = f"/music/incoming/{name}"

        def has_failed() -> bool:
            log = attempt("docker", "logs", "--tail", "200", lab.container("analysis_service"))
            return f"analysis failed for {inside}" in log.stdout + log.stderr

        wait_until(has_failed, f"the analysis of {inside} to fail", SECONDS)
        yield
    finally:
        path.unlink(missing_ok=True)
        hidden.unlink(missing_ok=True)


@fault(fires=["audio_processing.library_unreadable", "audio_processing.failed_file"])
def unreadable_file(lab):
    """A file of the library can be read by its owner only, who is not the user of the service."""
    yield from failing(lab, f"private-{os.getpid()}.wav", b"RIFF", 0o600)


@fault(fires=["audio_processing.failed_file"])
def undecodable_file(lab):
    """A file of the library holds text, and the decoder of the service rejects it."""
    yield from failing(lab, f"text-{os.getpid()}.mp3", b"This is no audio.\n" * 20, 0o644)


@fault(fires=["audio_processing.leftovers"])
def temporary_files_left(lab):
    """The analysis service has left a file in its temporary directory, three days ago."""
    lab.exec("analysis_service", "sh", "-c", f"echo left > {LEFT} && touch -d '3 days ago' {LEFT}")
    try:
        yield
    finally:
        lab.exec("analysis_service", "rm", "-f", LEFT)
