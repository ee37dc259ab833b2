# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An area outside of the collection with remedies of every risk: they fill empty files in a directory.

The suffix of an empty file selects its remedy: ``.safe``, ``.disruptive`` and ``.destructive`` are filled;
``.stubborn`` is only touched, so its finding remains.
"""

from __future__ import annotations

import yaml

REMEDIES = {
    "safe": ("fill", "safe", "none"),
    "disruptive": ("rewrite", "disruptive", "none"),
    "destructive": ("replace", "destructive", "files"),
    "stubborn": ("touch", "disruptive", "none"),
}
DEFAULTS = {
    "dumps_directory": "",
    "dumps_content": "full",
    "dumps_deny": [],
    "dumps_most": 3,
    # A command that the remedies run first, to fail or to wait.
    "dumps_before": "",
    "dumps_login_password": "hunter2",
    "dumps_deadline": 5,
    "dumps_probe_host": "",
}
DELEGATED = {"delegate_to": "{{ dumps_probe_host | default(inventory_hostname, true) }}"}
BEFORE = {
    "name": "Wait",
    "ansible.builtin.command": "{{ dumps_before }}",
    "when": "dumps_before | length > 0",
    **DELEGATED,
}
FILL = {
    "name": "Fill it",
    "ansible.builtin.copy": {"dest": "{{ tracktion_remedy.path }}", "content": "{{ dumps_content }}"},
    "register": "tracktion_remedied",
    **DELEGATED,
}
TOUCH = {
    "name": "Touch it",
    "ansible.builtin.file": {"path": "{{ tracktion_remedy.path }}", "state": "touch"},
    "register": "tracktion_remedied",
    **DELEGATED,
}


def check(ending):
    return {
        "id": "dumps.empty_%s" % ending,
        "title": "A dump is empty",
        "each": "listing.files",
        "when": "item.path.endswith('.%s')" % ending,
        "critical": "item.size == 0",
        "object": "{{ item.path }}",
        "summary": "{{ item.path }} has {{ item.size | bytes }}",
        "remedy": "dumps.%s" % REMEDIES[ending][0],
        "guide": "Backup Restoration",
        "why": "An empty dump looks like a backup until it is needed.",
    }


def remedy(ending):
    name, risk, data_loss = REMEDIES[ending]
    return {
        "id": "dumps.%s" % name,
        "title": "Fill a dump",
        "risk": risk,
        "data_loss": data_loss,
        "does": "fills {{ item.path }}",
        "vars": {"path": "{{ item.path }}"},
        "target": "{{ item.path.split('/') | last }}",
        "evidence": "{{ item.path }} {{ item.inode }}",
        "deny": "item.path.split('/') | last in dumps_deny",
        "cap": "dumps_most",
        "cooldown": 3600 if ending == "stubborn" else 0,
        "result": ["dest", "size"],
        "undo": "truncate -s 0 {{ vars.path }}",
    }


def write(roles):
    """Write the role ``dumps`` below the roles path ``roles``."""
    types = {str: "str", int: "int", list: "list"}
    options = {key: {"type": types[type(value)]} for key, value in DEFAULTS.items()}
    listing = {"module": "ansible.builtin.find", "options": {"paths": "{{ dumps_directory }}", "patterns": "*.*"}}
    contents = {
        "defaults/main.yml": DEFAULTS,
        "meta/argument_specs.yml": {"argument_specs": {"main": {"options": options}}},
        "diagnosis/probes.yml": {"probes": {"listing": listing}},
        "diagnosis/checks.yml": [check(ending) for ending in REMEDIES],
        "diagnosis/remedies.yml": [remedy(ending) for ending in REMEDIES],
        **{"tasks/remediate/%s.yml" % name: [BEFORE, FILL] for name in ("fill", "rewrite", "replace")},
        "tasks/remediate/touch.yml": [BEFORE, TOUCH],
    }
    for name, data in contents.items():
        path = roles / "dumps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(data))
