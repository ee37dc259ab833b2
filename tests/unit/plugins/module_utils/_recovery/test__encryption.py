# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encryption of the files of a backup, with the real gpg."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotMeasure, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _encryption
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._run import ProgramFailed
from tests.keyring import new_keyring


@pytest.fixture(scope="module")
def keyring():
    """A keyring with two keys."""
    with new_keyring() as home:
        yield home


def test_files_are_encrypted_for_all_recipients_and_decrypted(keyring, tmp_path):
    recipients = ["backup@example.org", "second@example.org"]
    assert _encryption.program_for(recipients) == "gpg"
    source, target = tmp_path / "backup", tmp_path / "plain"
    (source / "dump").mkdir(parents=True)
    (source / "dump" / "toc.dat").write_bytes(b"PGDMP" * 1000)
    _encryption.encrypt_below(str(source), "gpg", recipients, Deadline(60))
    assert [path.name for path in (source / "dump").iterdir()] == ["toc.dat.gpg"]
    content = (source / "dump" / "toc.dat.gpg").read_bytes()
    assert b"PGDMP" not in content
    _encryption.decrypt_below(str(source), str(target), "gpg", None, Deadline(60), ["dump/toc.dat.gpg"])
    assert (target / "dump" / "toc.dat").read_bytes() == b"PGDMP" * 1000
    with pytest.raises(ProgramFailed, match="for 2 of 3 recipients"):
        _encryption.check("gpg", str(source / "dump" / "toc.dat.gpg"), 3, Deadline(60))


def test_an_unknown_recipient_leaves_the_file_as_it_was(keyring, tmp_path):
    (tmp_path / "dump").write_bytes(b"PGDMP")
    with pytest.raises(ProgramFailed, match="gpg failed"):
        _encryption.encrypt_below(str(tmp_path), "gpg", ["unknown@example.org"], Deadline(60))
    assert (tmp_path / "dump").read_bytes() == b"PGDMP"


def test_recipients_are_of_one_program():
    assert _encryption.program_for([]) is None
    for recipients in (["age1abc", "a@example.org"], ["--output=/etc/passwd"], ["name"], ["-x@example.org"]):
        with pytest.raises(BadOption, match="neither all recipients of age"):
            _encryption.program_for(recipients)


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setattr(_encryption._programs, "SEARCH_PATH", "/nowhere")
    with pytest.raises(CannotMeasure, match="age is not installed"):
        _encryption.program_for(["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"])


def test_the_command_of_age():
    command = _encryption.encrypt_command("age", ["age1a", "age1b"], "/b/x", "/b/x.age")
    assert command[1:] == ["--recipient", "age1a", "--recipient", "age1b", "--output", "/b/x.age", "/b/x"]


def test_a_file_of_age_is_checked_by_its_header(tmp_path):
    path = tmp_path / "x.age"
    path.write_bytes(b"age-encryption.org/v1\n-> X25519 abc\ndef\n-> X25519 ghi\njkl\n--- mac\n\x00")
    _encryption.check("age", str(path), 2, Deadline(60))
    with pytest.raises(ProgramFailed, match="for 2 of 3 recipients"):
        _encryption.check("age", str(path), 3, Deadline(60))
    path.write_bytes(b"PGDMP")
    with pytest.raises(ProgramFailed, match="for 0 of 1"):
        _encryption.check("age", str(path), 1, Deadline(60))
