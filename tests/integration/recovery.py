# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options for backups of the servers of the lab."""

from __future__ import annotations

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_clients


def options_of(server, spec=None, **options):
    """Return the options of a module for a PostgreSQL server of the lab, with the defaults of its argument spec."""
    wanted = {
        "login_host": server.host,
        "login_port": server.port,
        "login_user": server.user,
        "login_password": server.password,
        "login_db": "tracktion",
        **options,
    }
    spec = spec or {**_postgresql.CONNECTION_SPEC, **_pg_clients.SPEC}
    result = ArgumentSpecValidator(spec).validate(wanted)
    assert not result.error_messages, result.error_messages
    return result.validated_parameters
