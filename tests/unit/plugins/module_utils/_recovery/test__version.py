# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The version in manifests is the one of the collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._recovery._version import COLLECTION_VERSION
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas


def test_the_version_is_that_of_the_collection():
    assert _areas.version() == COLLECTION_VERSION
