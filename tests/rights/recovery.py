# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights that the area recovery needs."""

from __future__ import annotations

from tests.rights import Right

CHECKS = (
    "directory_unusable",
    "no_backup",
    "backup_missing",
    "backup_old",
    "backup_incomplete",
    "backup_damaged",
    "never_proven",
    "proof_old",
    "proof_failed",
    "does_not_fit",
    "readable_by_others",
    "same_file_system",
)

RIGHTS = [Right("recovery", "root", "--become", CHECKS)]
