# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A certificate authority of the lab's own, for servers that speak TLS."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .engine import install_programs
from .shell import run

# By itself, Python 3.13 and later refuse an authority without these key usages.
EXTENSIONS = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[plain_authority]
basicConstraints = CA:TRUE
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


def make_certificates(directory: Path, user: str, *names: str, authority: str = "authority") -> Certificates:
    """An authority, a certificate for a server on loopback (and any further names), and one for the client `user`.

    The authority `plain_authority` is as an old script makes one: without formalities.
    """
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
    issue(authority, "Tracktion lab", server / "ca.pem", authority_key)
    signed = ("-CA", server / "ca.pem", "-CAkey", authority_key)
    issue("server", "localhost", server / "server.pem", server / "server-key.pem", *signed)
    issue("client", user, client / "client.pem", client / "client-key.pem", *signed)
    return Certificates(server, server / "ca.pem", client / "client.pem", client / "client-key.pem")


def issue_server(directory: Path, name: str, days: tuple[float, float], *, trusted: bool = True) -> Path:
    """A certificate with its key, for a server called `name`, valid between two days from now, in one file.

    `directory` is that of make_certificates; its authority signs, or, if not `trusted`, an unknown authority.
    """
    # Not openssl: before its version 3.4, its commands give no certificate that has expired.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.load_pem_x509_certificate((directory / "server" / "ca.pem").read_bytes())
    authority_key = serialization.load_pem_private_key((directory / "ca-key.pem").read_bytes(), None)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority_key if trusted else ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    file = directory / f"{name}{days[0]}{days[1]}{trusted}.pem"
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file
