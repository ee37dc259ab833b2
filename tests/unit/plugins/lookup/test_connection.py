# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.tracktion.ops.plugins.lookup.connection import LookupModule


def connection(*areas, **variables):
    variables = {"inventory_hostname": "web", **variables}
    plugin = LookupModule(loader=DataLoader(), templar=Templar(loader=DataLoader(), variables=variables))
    # Set by Ansible's plugin loader.
    plugin._load_name = "tracktion.ops.connection"
    return plugin.run(list(areas), variables=variables)


def test_the_options_of_an_area_have_the_values_of_the_host():
    cache, database = connection("cache", "database", cache_login_host="10.0.0.5", database_login_port="5433")
    assert cache["login_host"] == "10.0.0.5"
    assert database["login_port"] == 5433


def test_an_invalid_value_is_named():
    with pytest.raises(AnsibleLookupError, match="database_login_port: must be a whole number"):
        connection("database", database_login_port="many")


def test_an_unknown_area_is_rejected():
    with pytest.raises(AnsibleLookupError, match="no area queues"):
        connection("queues")
