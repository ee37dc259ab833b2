# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the exchanges and queues are called; without a library, so that tests can read it too."""

from __future__ import annotations

FILE_EXCHANGE = "tracktion.files"
FILE_QUEUE = "file.events"
AUDIO_QUEUE = "audio.analysis.requests"
DEAD_EXCHANGE = "tracktion.dead"
DEAD_QUEUE = "audio.analysis.dead"
