# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Functions of ansible-core that older versions do not have. Private to this collection.

The import fails on an older version, with a message that names the required version.
"""

from __future__ import annotations

import os

import ansible
from ansible.errors import AnsibleError
from ansible.release import __version__

# As ``requires_ansible`` in meta/runtime.yml, which Ansible itself only warns about.
OLDEST = (2, 19)


def reason_to_reject(version: str, where: str, in_awx: bool) -> str | None:
    """Return why this version of ansible-core cannot run the collection, or None if it can."""
    if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST:
        return None
    if in_awx:
        hint = "Select an execution environment with a newer one in the job template: docs/awx.md of the collection."
    else:
        hint = "Install a newer one on the controller: `pip install 'ansible-core>=%d.%d'`." % OLDEST
    return "tracktion.ops needs ansible-core %d.%d or later; this is %s (%s%s). %s" % (
        *OLDEST,
        version,
        "execution environment, " if in_awx else "",
        where,
        hint,
    )


def _in_awx() -> bool:
    """Return whether ansible-runner started this process for a job of AWX."""
    return any(name in os.environ for name in ("AWX_PRIVATE_DATA_DIR", "AWX_ISOLATED_DATA_DIR"))


def file_of(value: object) -> str | None:
    """Return the file that a value of a variable was read from; null if it is not known."""
    try:
        from ansible._internal._datatag._tags import Origin
    except ImportError:
        return None
    origin = Origin.get_tag(value)
    return origin.path if origin else None


__all__ = ("file_of", "trust_as_template")

try:
    from ansible.template import trust_as_template
except ImportError as exc:
    raise AnsibleError(reason_to_reject(__version__, os.path.dirname(ansible.__file__), _in_awx()) or str(exc)) from exc
