# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parsing of certificates, compared with the library that creates them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ansible_collections.tracktion.ops.plugins.module_utils._http import _certificate


def certificate(begins, expires, names=(), organization=None):
    """Return a self-signed certificate in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, "Ärger")]
    if organization:
        attributes.insert(0, x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE"), *attributes])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(expires)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("begins", "expires"),
    [
        (datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC)),
        # Times from 2050 on have another format.
        (datetime(2026, 2, 28, 1, 2, 3, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)),
    ],
)
def test_validity(begins, expires):
    found = _certificate.parse(certificate(begins, expires))
    assert (found["begins"], found["expires"]) == (begins.timestamp(), expires.timestamp())
    assert (found["subject"], found["issuer"], found["names"]) == ("CN=Ärger", "CN=Ärger", [])


def test_names():
    names = [
        x509.DNSName("a.example"),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.RFC822Name("user@example.org"),
        x509.DNSName("*." + "b" * 60 + ".example"),
    ]
    now = datetime.now(UTC).replace(microsecond=0)
    found = _certificate.parse(certificate(now, now, names, "The \x01 Firm"))
    assert found["names"] == ["a.example", "::1", "127.0.0.1", "*." + "b" * 60 + ".example"]
    assert found["subject"] == "O=The \x01 Firm, CN=Ärger"


def test_other_data_is_rejected():
    now = datetime.now(UTC)
    whole = certificate(now, now)
    for broken in (b"", b"\x30", b"hello", whole[:100], b"\x30\x84\xff\xff\xff\xff"):
        with pytest.raises(ValueError, match="not a certificate"):
            _certificate.parse(broken)
