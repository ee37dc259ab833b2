# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encryption of the files of a backup, with the real gpg and age."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotMeasure, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _encryption, _space
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._chosen import DamagedBackup
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._run import ProgramFailed
from tests.keyring import new_age_key, new_keyring


@pytest.fixture(scope="module")
def keyring():
    """A keyring with two keys."""
    with new_keyring() as home:
        yield home


@pytest.fixture(params=["gpg", "age"])
def keys(request, tmp_path):
    """A program, two recipients, and the identity that decrypts."""
    if request.param == "gpg":
        request.getfixturevalue("keyring")
        return "gpg", ["backup@example.org", "second@example.org"], None
    recipients = [new_age_key(tmp_path / name) for name in ("one.key", "two.key")]
    return "age", recipients, str(tmp_path / "two.key")


@pytest.fixture
def encrypted(keys, tmp_path):
    """A directory with an encrypted file, the name of the file, and one for the decrypted one."""
    program, recipients, _identity = keys
    source, target = tmp_path / "backup", tmp_path / "plain"
    (source / "dump").mkdir(parents=True)
    target.mkdir()
    (source / "dump" / "toc.dat").write_bytes(b"PGDMP" * 1000)
    assert _encryption.program_for(recipients) == program
    _encryption.encrypt_below(str(source), program, recipients, Deadline(60))
    return source, "dump/toc.dat." + program, target


def test_files_are_encrypted_for_all_recipients_and_decrypted(keys, encrypted):
    program, _recipients, identity = keys
    source, name, target = encrypted
    assert [path.name for path in (source / "dump").iterdir()] == ["toc.dat." + program]
    assert b"PGDMP" not in (source / name).read_bytes()
    _encryption.decrypt_below(str(source), str(target), program, identity, Deadline(60), [name])
    assert (target / "dump" / "toc.dat").read_bytes() == b"PGDMP" * 1000
    with pytest.raises(ProgramFailed, match="for 2 of 3 recipients"):
        _encryption.check(program, str(source / name), 3, Deadline(60))


def test_a_damaged_file_differs_from_a_missing_key_and_a_full_disk(keys, encrypted, tmp_path, monkeypatch):
    program, _recipients, identity = keys
    source, name, target = encrypted

    def decrypt(key=identity):
        _encryption.decrypt_below(str(source), str(target), program, key, Deadline(60), [name])

    with new_keyring(mails=()):
        new_age_key(tmp_path / "other.key")
        for key in (str(tmp_path / "other.key"), str(tmp_path / "absent.key")):
            with pytest.raises(_encryption.CannotDecrypt, match="cannot be decrypted"):
                decrypt(key)
    if program == "age":
        with pytest.raises(BadOption, match="encryption_identity"):
            decrypt("")
    with monkeypatch.context() as patch:
        patch.setattr(_encryption._space, "free", lambda path: _space.Space(0, 100, 1000, 1000))
        with pytest.raises(_space.NoSpace, match="The decrypted copy of the backup needs about"):
            decrypt()
    content = bytearray((source / name).read_bytes())
    content[-30] ^= 1
    (source / name).write_bytes(content)
    with pytest.raises(DamagedBackup, match="cannot be decrypted"):
        decrypt()


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
