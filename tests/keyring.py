# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A keyring of gpg, for encrypted backups."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile

from tests.lab.engine import install_programs


@contextlib.contextmanager
def new_keyring():
    """A keyring with two keys without passphrase. Its path is short, because gpg-agent has a socket in it."""
    install_programs({"gpg": ("gpg", "gnupg")})
    home = tempfile.mkdtemp(prefix="tracktion-gpg-")
    before = os.environ.get("GNUPGHOME")
    os.environ["GNUPGHOME"] = home
    for mail in ("backup@example.org", "second@example.org"):
        command = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", mail, "default", "default", "never"]
        subprocess.run(command, check=True, capture_output=True)
    yield home
    subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=False)
    os.environ.pop("GNUPGHOME")
    if before is not None:
        os.environ["GNUPGHOME"] = before
    shutil.rmtree(home, ignore_errors=True)
