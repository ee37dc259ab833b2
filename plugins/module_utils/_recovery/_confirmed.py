# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Confirms restores by name, and logs them to the audit log of the host. Private to this collection."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from typing import Any, Iterator

from ansible_collections.tracktion.ops.plugins.module_utils import _journal
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Failure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

ACTION = "recovery.restore"


class NotConfirmed(Failure):
    """The restore was not confirmed by name."""

    kind = "not_confirmed"


def command(name: str, **variables: Any) -> str:
    """Return the command that restores what has this name, with these variables."""
    values = {"tracktion_confirm": ["%s:%s" % (ACTION, name)], **variables}
    return "ansible-playbook tracktion.ops.restore -e %s" % shell_quote(json.dumps(values))


def require_confirmation(options: Options, name: str, does: str, **variables: Any) -> None:
    """Raise NotConfirmed unless the name is among those of ``confirm``."""
    if "%s:%s" % (ACTION, name) not in options["confirm"]:
        raise NotConfirmed(
            "this %s, and is not confirmed" % does,
            "Show what it would do: `ansible-playbook tracktion.ops.restore --check`. Then confirm it: `%s`."
            % command(name, **variables),
        )


@contextlib.contextmanager
def audited(options: Options, name: str, target: str, does: str, run: str) -> Iterator[dict[str, Any]]:
    """Log an action to the audit log of the host, before and after. What is added to the mapping is logged with it."""
    path = os.path.join(options["state_dir"], _journal.AUDIT)
    entry = {
        "run": run,
        "who": options["run"].get("who") or "uid %d" % os.getuid(),
        "host": platform.node(),
        "action": "%s:%s" % (ACTION, name),
        "remedy": ACTION,
        "target": target,
        "does": does,
    }
    more: dict[str, Any] = {}
    _journal.append(path, [dict(entry, event="intent", time=time.time())])
    outcome, message = "failed", ""
    try:
        yield more
        outcome = "done"
    except Failure as exc:
        message = str(exc)
        raise
    finally:
        ended = dict(entry, **more, event="outcome", outcome=outcome, changed=outcome == "done", message=message)
        with contextlib.suppress(OSError):
            _journal.append(path, [dict(ended, time=time.time())])
