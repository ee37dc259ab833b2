# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that several test files share."""

from __future__ import annotations

import pytest

from tests.integration.postgresql import database


@pytest.fixture(scope="session")
def pg15():
    """PostgreSQL 15, without TLS."""
    with database("bookworm") as found:
        yield found


@pytest.fixture(scope="session")
def pg17():
    """PostgreSQL 17, with TLS."""
    with database("trixie", tls=True) as found:
        yield found
