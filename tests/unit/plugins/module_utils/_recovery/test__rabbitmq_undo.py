# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the undo of an import deletes, and which imports are recorded."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _rabbitmq_undo
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._rabbitmq_undo import Import, NoImport, Undo

QUEUE = {"vhost": "v", "name": "q", "durable": True, "auto_delete": False, "arguments": {}}
BINDING = {
    "vhost": "v",
    "source": "amq.topic",
    "destination_type": "queue",
    "destination": "q",
    "routing_key": "a",
    "arguments": {},
}
DOCUMENT = {
    "users": [{"name": "u", "tags": ["monitoring"]}],
    "vhosts": [{"name": "v"}],
    "permissions": [{"vhost": "v", "user": "u", "configure": "", "write": "", "read": ".*"}],
    "queues": [QUEUE],
    "bindings": [BINDING, dict(BINDING, destination="older")],
}


def undo(**found):
    return Undo(Import("1", "rabbitmq", "s", DOCUMENT), {**DOCUMENT, **found})


def test_items_are_deleted_in_an_order_in_which_nothing_needs_them():
    assert [key[0] for key in undo().wanted] == ["bindings", "queues", "permissions", "vhosts", "users"]
    # The binding of the queue goes with it.
    assert [key[4] for key in undo().wanted if key[0] == "bindings"] == ["older"]


def test_what_was_changed_since_is_kept_and_what_is_gone_is_not_named():
    found = undo(queues=[dict(QUEUE, durable=False)], users=[])
    assert found.kept == {("queues", "v", "q"): "it was changed since the import"}
    assert "users" not in [key[0] for key in found.wanted]


def test_records_are_found_by_id_or_as_the_last_one_of_their_name(tmp_path):
    directory = str(tmp_path / "state")
    for number in range(12):
        name = "other" if number == 11 else "rabbitmq"
        _rabbitmq_undo.record(directory, Import("restore-20261129T1200%02dZ-a" % number, name, "s", DOCUMENT))
    (tmp_path / "state" / "recovery-imported-broken.json").write_text("{")
    last = _rabbitmq_undo.find(directory, "rabbitmq", "last")
    assert (last.identity, last.document) == ("restore-20261129T120010Z-a", DOCUMENT)
    assert _rabbitmq_undo.find(directory, "rabbitmq", "restore-20261129T120005Z-a").stamp == "s"
    # Ten are kept.
    with pytest.raises(NoImport) as failure:
        _rabbitmq_undo.find(directory, "rabbitmq", "restore-20261129T120001Z-a")
    assert "restore-20261129T120010Z-a" in failure.value.hint
    _rabbitmq_undo.forget(directory, last)
    assert _rabbitmq_undo.find(directory, "rabbitmq", "last").identity == "restore-20261129T120009Z-a"


def test_without_records_the_message_says_so(tmp_path):
    with pytest.raises(NoImport, match="no record of an import last into rabbitmq"):
        _rabbitmq_undo.find(str(tmp_path / "none"), "rabbitmq", "last")
