# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The version of this collection, for manifests that are written on a managed host. Private to this collection."""

from __future__ import annotations

# The same as in galaxy.yml, which modules on a host cannot read.
COLLECTION_VERSION = "0.4.0"
