# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The measuring functions a visit can run, by the name of the module that is their other front.

Private to this collection.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption

if TYPE_CHECKING:
    # Never run, but read: AnsiballZ packs what it finds imported here. Running is left to load(), so that each
    # process of a visit imports only what its own area needs (a client library costs up to 0.15 s of CPU).
    from ansible_collections.tracktion.ops.plugins.module_utils import (  # pylint: disable=unused-import
        _file_events_info,
        _inotify_limits,
        _log_errors_info,
        _pg_activity,
        _pg_health_info,
        _rabbitmq_node_info,
        _rabbitmq_queue_state,
        _redis_health_info,
        _redis_memory,
    )

PACKAGE = "ansible_collections.tracktion.ops.plugins.module_utils"


def load(name):
    """The measuring module ``name``: its ``ARGUMENT_SPEC`` and its ``measure(options)``."""
    try:
        return importlib.import_module("%s._%s" % (PACKAGE, name))
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.startswith(PACKAGE):
            raise BadOption("module: %r is not a measuring module of tracktion.ops" % name) from exc
        raise
