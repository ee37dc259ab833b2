# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time that a test allows for a call that must not hang."""

# How many times slower than a quiet machine a machine of tests may be: several test processes share its cores.
SLACK = 5
