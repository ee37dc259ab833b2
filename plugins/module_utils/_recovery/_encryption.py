# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encrypts the files of a backup for recipients, with age or gpg. Private to this collection.

Only public keys are needed to make a backup. Each file is encrypted after it was written and verified; the file without
encryption exists until then, readable by its owner only.
"""

from __future__ import annotations

import os
import re
from typing import Callable, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotMeasure,
    Deadline,
    Failure,
    cut,
)
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _run, _space
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._chosen import DamagedBackup
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._files import files_below

SUFFIXES = {"age": ".age", "gpg": ".gpg"}
OF_AGE = re.compile(r"(age1[a-z0-9]+|ssh-(ed25519|rsa) \S+)( \S*)?\Z")
# A fingerprint, a key id, or a mail address.
OF_GPG = re.compile(r"((0x)?[0-9A-Fa-f]{8,40}|[^\s<>-][^\s<>]*@[^\s<>]+)\Z")
MAGIC_OF_AGE = b"age-encryption.org/v1"
# A key that is missing or locked, a full disk: such a failure proves nothing about the backup.
OF_THE_MACHINE = re.compile(
    r"no identity matched|reading \"|failed to open|No secret key|No pinentry|Inappropriate ioctl|Bad passphrase"
    r"|Operation cancelled|agent|keydb|No space left|Disk quota|Permission denied|No such file|Cannot allocate",
    re.IGNORECASE,
)
HINTS = {
    "age": "Name the file with the key in `encryption_identity`.",
    "gpg": "Import the secret key on the host, and list those that are there: `gpg --list-secret-keys`.",
}


class CannotDecrypt(Failure):
    """This host cannot decrypt the backup: the key is missing, or the disk is full."""

    kind = "cannot_decrypt"


def program_for(recipients: Sequence[str]) -> str | None:
    """Return ``age`` or ``gpg``, by the form of the recipients; null for none. Raises BadOption, CannotMeasure."""
    if not recipients:
        return None
    if all(OF_AGE.match(each) for each in recipients):
        program = "age"
    elif all(OF_GPG.match(each) for each in recipients):
        program = "gpg"
    else:
        raise BadOption(
            "encryption_recipients: %s are neither all recipients of age (age1...) nor all keys of gpg (fingerprint, "
            "mail address)" % cut(", ".join(recipients), 200)
        )
    if _programs.find(program) is None:
        raise CannotMeasure("%s is not installed" % program, hint="Install it: `apt-get install %s`." % program)
    return program


def encrypt_command(program: str, recipients: Sequence[str], source: str, target: str) -> list[str]:
    """Return the command that encrypts one file."""
    path = _programs.find(program) or program
    if program == "age":
        return [path, *(word for each in recipients for word in ("--recipient", each)), "--output", target, source]
    options = ["--batch", "--no-tty", "--trust-model", "always", "--compress-algo", "none"]
    wanted = [word for each in recipients for word in ("--recipient", each)]
    return [path, *options, *wanted, "--output", target, "--encrypt", source]


def decrypt_command(program: str, identity: str | None, source: str, target: str) -> list[str]:
    """Return the command that decrypts one file, with an identity file for age or the keyring of the user for gpg."""
    path = _programs.find(program) or program
    if program == "age":
        return [path, "--decrypt", "--identity", identity or "", "--output", target, source]
    return [path, "--batch", "--no-tty", "--output", target, "--decrypt", source]


def encrypt_below(
    folder: str,
    program: str,
    recipients: Sequence[str],
    deadline: Deadline,
    watch: Callable[[], None] | None = None,
) -> None:
    """Replace each file below ``folder`` by an encrypted one, which is checked. Raises ProgramFailed, OutOfTime."""
    for name in files_below(folder):
        source = os.path.join(folder, name)
        target = source + SUFFIXES[program]
        _run.run(program, encrypt_command(program, recipients, source, target), deadline, watch=watch)
        os.chmod(target, 0o600)
        check(program, target, len(recipients), deadline)
        os.unlink(source)


def decrypt_below(
    folder: str, into: str, program: str, identity: str | None, deadline: Deadline, names: Sequence[str]
) -> None:
    """Write the decrypted ``names`` of ``folder`` below ``into``, without their suffix.

    Raises DamagedBackup for a file that no key decrypts, CannotDecrypt, NoSpace, OutOfTime, OSError.
    """
    if program == "age" and not identity:
        raise BadOption("encryption_identity: the file with the key for age is needed to read this backup")
    sizes = [os.stat(os.path.join(folder, name)).st_size for name in names]
    _space.check(into, sum(sizes), len(names) + 16, "The decrypted copy of the backup")
    for name in names:
        target = os.path.join(into, name[: -len(SUFFIXES[program])])
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        try:
            _run.run(program, decrypt_command(program, identity, os.path.join(folder, name), target), deadline)
        except _run.ProgramFailed as exc:
            reason = "%s cannot be decrypted: %s" % (shell_quote(name), exc)
            if OF_THE_MACHINE.search(str(exc)) or exc.status is None:
                raise CannotDecrypt(reason, HINTS[program])
            raise DamagedBackup(reason, HINTS[program])
        os.chmod(target, 0o600)


def check(program: str, path: str, recipients: int, deadline: Deadline) -> None:
    """Raise ProgramFailed unless a file is encrypted for this number of recipients."""
    if program == "age":
        with open(path, "rb") as stream:
            header = stream.read(65536).partition(b"\n---")[0]
        found = header.count(b"\n-> ") if header.startswith(MAGIC_OF_AGE) else 0
    else:
        # With --list-only nothing is decrypted, so no secret key is needed.
        arguments = ["--batch", "--no-tty", "--status-fd", "1", "--list-only", "--decrypt", path]
        text = _run.run("gpg", [_programs.find("gpg") or "gpg", *arguments], deadline)
        found = text.count("[GNUPG:] ENC_TO ")
    if found < recipients:
        reason = "%s is encrypted for %d of %d recipients" % (os.path.basename(path), found, recipients)
        raise _run.ProgramFailed(program, [reason], 0)
