# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files are an archive of pg_dump."""

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_adopt import NotAdopted, archive_files


def test_a_file_and_a_directory(tmp_path):
    file, folder = tmp_path / "old.dump", tmp_path / "old"
    file.write_bytes(b"PGDMP\x01\x0e")
    folder.mkdir()
    (folder / "toc.dat").write_bytes(b"PGDMP\x01\x0e\x00")
    (folder / "1.dat.gz").write_bytes(b"")
    assert archive_files(str(file)) == {"": 7}
    assert archive_files(str(folder)) == {"1.dat.gz": 0, "toc.dat": 8}


def test_what_is_no_archive_is_rejected_with_a_hint(tmp_path):
    script, folder, odd = (tmp_path / name for name in ("old.sql", "empty", "odd"))
    script.write_text("SELECT 1;")
    folder.mkdir()
    odd.mkdir()
    (odd / "toc.dat").write_bytes(b"PGDMP")
    os.mkfifo(odd / "pipe")
    for path in (script, folder, odd, tmp_path / "none"):
        with pytest.raises(NotAdopted):
            archive_files(str(path))
    with pytest.raises(NotAdopted) as failure:
        archive_files(str(script))
    assert "--format=custom" in failure.value.hint
