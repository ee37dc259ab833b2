# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of gpg and of age, for encrypted backups."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile

from tests.lab.engine import install_programs


@contextlib.contextmanager
def new_keyring(mails=("backup@example.org", "second@example.org")):
    """A keyring with keys without passphrase. Its path is short, because gpg-agent has a socket in it."""
    install_programs({"gpg": ("gpg", "gnupg")})
    home = tempfile.mkdtemp(prefix="tracktion-gpg-")
    before = os.environ.get("GNUPGHOME")
    os.environ["GNUPGHOME"] = home
    for mail in mails:
        command = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", mail, "default", "default", "never"]
        subprocess.run(command, check=True, capture_output=True)
    yield home
    subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=False)
    os.environ.pop("GNUPGHOME")
    if before is not None:
        os.environ["GNUPGHOME"] = before
    shutil.rmtree(home, ignore_errors=True)


def new_age_key(path):
    """Write a key of age to a file, and return its recipient."""
    install_programs({"age-keygen": ("age",)})
    subprocess.run(["age-keygen", "-o", str(path)], check=True, capture_output=True)
    return subprocess.run(["age-keygen", "-y", str(path)], check=True, capture_output=True, text=True).stdout.strip()
