# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A certificate authority of the lab's own, for servers that speak TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .engine import install_programs
from .shell import run

# Python 3.13 and later refuse an authority without these key usages.
EXTENSIONS = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = {names}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
extendedKeyUsage = serverAuth
[client]
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
extendedKeyUsage = clientAuth
"""


@dataclass(frozen=True)
class Certificates:
    """What a client needs, as files. `server_directory` is what the server mounts."""

    server_directory: Path
    ca_cert: Path
    client_cert: Path
    client_key: Path


def make_certificates(directory: Path, user: str, *names: str) -> Certificates:
    """An authority, a certificate for a server on loopback (and any further names), and one for the client `user`."""
    install_programs({"openssl": ("openssl",)})
    server = directory / "server"
    client = directory / "client"
    server.mkdir(parents=True)
    client.mkdir()
    configuration = directory / "openssl.cnf"
    subject_names = ["DNS:localhost", "IP:127.0.0.1", *(f"DNS:{name}" for name in names)]
    configuration.write_text(EXTENSIONS.format(names=",".join(subject_names)), encoding="utf-8")

    def issue(kind: str, subject: str, cert: Path, key: Path, *signed_by: str | Path) -> None:
        run(
            "openssl",
            "req",
            "-x509",
            "-config",
            configuration,
            "-extensions",
            kind,
            "-days",
            "30",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-subj",
            f"/CN={subject}",
            "-out",
            cert,
            "-keyout",
            key,
            *signed_by,
        )
        key.chmod(0o600)

    authority_key = directory / "ca-key.pem"
    issue("authority", "Tracktion lab", server / "ca.pem", authority_key)
    signed = ("-CA", server / "ca.pem", "-CAkey", authority_key)
    issue("server", "localhost", server / "server.pem", server / "server-key.pem", *signed)
    issue("client", user, client / "client.pem", client / "client-key.pem", *signed)
    return Certificates(server, server / "ca.pem", client / "client.pem", client / "client-key.pem")
