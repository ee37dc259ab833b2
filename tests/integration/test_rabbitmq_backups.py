# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup, proof and restore of a real RabbitMQ broker."""

from __future__ import annotations

import contextlib
import json
import random
import time
import urllib.error
from pathlib import Path

import pika
import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (
    _manifests,
    _operations,
    _proofs,
    _rabbitmq_definitions,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from tests.integration.kill_points import Kill, killed
from tests.integration.modules import run_module
from tests.keyring import new_age_key

SEED = 20261129
MESSAGES = 700


@pytest.fixture(params=["rabbitmq40"])
def broker(request):
    found = request.getfixturevalue(request.param)
    declare(found)
    yield found
    forget(found)


@pytest.fixture
def options(tmp_path):
    return {"directory": str(tmp_path / "backups"), "state_dir": str(tmp_path / "state")}


def run(broker, module, options, check=False, **more):
    if module.endswith("restore_backup"):
        more.setdefault("confirm", ["recovery.restore:rabbitmq"])
    return run_module(module, {**broker.login(), **options, **more}, check=check)


def declare(broker, messages=MESSAGES):
    """Declare one item of each category, and publish messages."""
    api = broker.rabbitmq_api
    api("PUT", "/vhosts/recovery", {"description": "of the tests"})
    api("PUT", "/vhost-limits/recovery/max-queues", {"value": 50})
    broker.user("recovering", "monitoring", {"recovery": ".*"})
    api("PUT", "/permissions/recovery/tracktion", dict.fromkeys(("configure", "write", "read"), ".*"))
    api("PUT", "/topic-permissions/recovery/recovering", {"exchange": "music", "write": "a", "read": "b"})
    policy = {"pattern": "^audio", "definition": {"max-length": 5000}, "apply-to": "queues"}
    api("PUT", "/policies/recovery/lengths", policy)
    api("PUT", "/operator-policies/recovery/limits", policy)
    with broker.amqp(virtual_host="recovery") as connection:
        channel = connection.channel()
        channel.exchange_declare("music", "topic", durable=True)
        channel.exchange_declare("inner", "fanout", durable=True, internal=True)
        channel.exchange_bind("inner", "music", "#")
        channel.queue_declare("audio.requests", durable=True, arguments={"x-max-priority": 5})
        channel.queue_declare("audio.quorum", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind("audio.requests", "music", "audio.#", arguments={"n": 1})
        for number in range(messages):
            properties = pika.BasicProperties(delivery_mode=2, headers={"n": number, "f": "x"}, priority=1)
            channel.basic_publish("music", "audio.%d" % number, b"\x00body %d" % number, properties)
        channel.basic_publish("", "audio.quorum", b"kept")


def forget(broker):
    for path in ("/vhosts/recovery", "/users/recovering"):
        with contextlib.suppress(urllib.error.HTTPError):
            broker.rabbitmq_api("DELETE", path)


def taken(broker, queue="audio.requests"):
    """Return the messages of a queue, and leave them there."""
    with broker.amqp(virtual_host="recovery") as connection:
        channel = connection.channel()
        found = []
        while True:
            method, properties, body = channel.basic_get(queue)
            if method is None:
                return found
            found.append((method.routing_key, body, properties.headers["n"], properties.priority))


def definitions(broker):
    """Return the definitions of the broker with password hashes, in one order."""
    document = broker.rabbitmq_api("GET", "/definitions")
    return {
        key: sorted(json.dumps(each, sort_keys=True) for each in value)
        for key, value in document.items()
        if isinstance(value, list)
    }


def test_a_destroyed_vhost_is_restored(broker, options):
    before, messages = definitions(broker), taken(broker)
    assert len(messages) == MESSAGES
    planned = run(broker, "rabbitmq_backup", options, check=True, messages_of=["audio.*"])
    assert planned["result"] == "planned"
    assert not Path(options["directory"]).exists()
    made = run(broker, "rabbitmq_backup", options, messages_of=["audio.*"], password_hashes=True)
    assert made.get("result") == "done", made
    assert made["messages"] == [{"vhost": "recovery", "queue": "audio.requests", "messages": MESSAGES}]
    assert [each["queue"] for each in made["left_out"]] == ["audio.quorum"]
    assert broker.ready("audio.requests", "recovery") == MESSAGES
    assert taken(broker) == messages
    proven = run(broker, "rabbitmq_prove_backup", options)
    assert proven.get("result") == "proven", proven["msg"]
    assert broker.ready("audio.requests", "recovery") == MESSAGES
    forget(broker)
    destroyed = definitions(broker)
    planned = run(broker, "rabbitmq_restore_backup", options, check=True, messages=True)
    assert "queues recovery audio.requests" in planned["created"]
    assert planned["users_without_password"] == []
    assert "recovery" not in [each["name"] for each in broker.rabbitmq_api("GET", "/vhosts")]
    restored = run(broker, "rabbitmq_restore_backup", options, messages=True)
    assert restored.get("result") == "done", restored
    assert definitions(broker) == before
    assert taken(broker) == messages
    again = run(broker, "rabbitmq_restore_backup", options)
    assert not again["changed"]
    refused = run(broker, "rabbitmq_restore_backup", options, messages=True)
    assert "has %d messages already" % MESSAGES in refused["msg"]
    # The undo keeps what is in use, with what it is in.
    undone = run(broker, "rabbitmq_restore_backup", options, action="undo")
    assert (undone.get("result"), undone["changed"]) == ("undone", True), undone
    kept = {each["item"]: each["reason"] for each in undone["kept"]}
    assert "not empty" in kept["queues recovery audio.requests"]
    assert kept["vhosts recovery"] == "it is in use"
    assert kept["permissions recovery tracktion"] == "its vhost is in use"
    assert taken(broker) == messages
    broker.rabbitmq_api("DELETE", "/queues/recovery/audio.requests/contents")
    planned = run(broker, "rabbitmq_restore_backup", options, check=True, action="undo")
    assert planned["deleted_total"] > 0
    assert "recovery" in [each["name"] for each in broker.rabbitmq_api("GET", "/vhosts")]
    undone = run(broker, "rabbitmq_restore_backup", options, action="undo", restore_id=restored["restore_id"])
    assert (undone["result"], undone["kept"]) == ("undone", []), undone
    assert definitions(broker) == destroyed
    assert run(broker, "rabbitmq_restore_backup", options, action="undo")["kind"] == "no_import"
    # Results and manifest have no hash of a password.
    texts = json.dumps([made, proven, restored]) + Path(made["path"], "manifest.json").read_text()
    assert "password_hash" not in texts.replace("password_hashes", "")


def test_what_the_broker_has_is_neither_changed_nor_deleted(broker, options):
    made = run(broker, "rabbitmq_backup", options)
    assert "password_hash" not in Path(made["path"], "definitions.json").read_text()
    broker.rabbitmq_api("DELETE", "/queues/recovery/audio.requests")
    broker.rabbitmq_api("DELETE", "/queues/recovery/audio.quorum")
    with broker.amqp(virtual_host="recovery") as connection:
        connection.channel().queue_declare("audio.requests", durable=True)
        connection.channel().queue_declare("additional", durable=True)
    before = definitions(broker)
    refused = run(broker, "rabbitmq_restore_backup", options)
    assert "queues recovery audio.requests" in refused["msg"], refused
    assert definitions(broker) == before
    call_proven(made)
    # The password of a user that exists survives a backup without hashes.
    kept = run(broker, "rabbitmq_restore_backup", options, keep_existing=True)
    assert kept["conflicts"] == ["queues recovery audio.requests"]
    assert "queues recovery audio.quorum" in kept["created"]
    after = definitions(broker)
    assert after["users"] == before["users"]
    assert set(before["queues"]) < set(after["queues"])
    broker.rabbitmq_api("DELETE", "/users/recovering")
    created = run(broker, "rabbitmq_restore_backup", options, keep_existing=True)
    assert created["users_without_password"] == ["recovering"]
    user = broker.rabbitmq_api("GET", "/users/recovering")
    assert (user["password_hash"], user["tags"]) == ("", ["monitoring"])


def test_restores_that_are_killed_are_completed(broker, options):
    before = definitions(broker)
    made = run(broker, "rabbitmq_backup", options, messages_of=["audio.requests"], password_hashes=True)
    call_proven(made)
    forget(broker)
    wanted = {**broker.login(), **options, "messages": True, "confirm": ["recovery.restore:rabbitmq"]}
    # Before anything was changed, after the import, and when some of the messages are there.
    for kill in (Kill("import"), Kill("import", "after"), Kill("rename to recovery-messages", "after", nth=2)):
        assert killed("rabbitmq_restore_backup", wanted, kill).result is None
    done = run(broker, "rabbitmq_restore_backup", options, messages=True)
    assert done.get("result") == "done", done
    assert definitions(broker) == before
    # Each is there. Those that were confirmed and not recorded are there twice.
    assert {each[2] for each in taken(broker)} == set(range(MESSAGES))


def test_an_encrypted_backup_can_be_read(broker, options, tmp_path):
    key = {"encryption_identity": str(tmp_path / "key")}
    recipient = new_age_key(tmp_path / "key")
    made = run(broker, "rabbitmq_backup", options, encryption_recipients=[recipient], messages_of=["audio.requests"])
    assert sorted(path.name for path in Path(made["path"]).rglob("*.age")) == [
        "00000.jsonl.age",
        "definitions.json.age",
    ]
    # Another scratch broker would take 10 seconds.
    planned = run(broker, "rabbitmq_restore_backup", options, check=True, **key)
    assert (planned.get("result"), planned["created"]) == ("planned", []), planned


def call_proven(made):
    """Write that a backup was proven: another scratch broker takes 10 seconds."""
    path = Path(made["path"])
    store = Store(str(path.parents[2]))
    artefact = store.read("rabbitmq", "rabbitmq", path.name)
    _proofs.write(store, artefact, time.time(), _proofs.Outcome("4.0.5", []))


def test_damage_and_missing_items_are_found(broker, options):
    made = run(broker, "rabbitmq_backup", options, messages_of=["audio.requests"])
    folder, chosen = Path(made["path"]), random.Random(SEED)
    path = folder / "definitions.json"
    good, before = path.read_bytes(), definitions(broker)
    for bad in (flipped(good, chosen), good[: len(good) // 2]):
        path.write_bytes(bad)
        assert run(broker, "rabbitmq_restore_backup", options, check=True)["kind"] == "damaged"
        assert run(broker, "rabbitmq_prove_backup", options)["result"] == "failed"
    path.write_bytes(good)
    document = json.loads(good)
    for category in ("queues", "bindings", "users", "policies", "parameters", "permissions"):
        lacking = json.dumps(dict(document, **{category: document[category][1:]})).encode()
        reseal(folder, "definitions.json", lacking)
        proven = run(broker, "rabbitmq_prove_backup", options)
        assert [each["item"] for each in proven["differences"]] == [category]
        assert run(broker, "rabbitmq_restore_backup", options)["kind"] == "damaged"
    reseal(folder, "definitions.json", good)
    messages = folder / "messages" / "00000.jsonl"
    reseal(folder, "messages/00000.jsonl", b"".join(messages.read_bytes().splitlines(True)[:-1]))
    assert run(broker, "rabbitmq_prove_backup", options)["differences"][0]["item"] == "messages"
    assert definitions(broker) == before


@pytest.mark.parametrize("broker", ["rabbitmq310", "rabbitmq40"], indirect=True)
def test_a_broker_outside_of_containers_is_proven_in_scratch_vhosts(broker, options):
    """On a host without an engine."""
    made = run(broker, "rabbitmq_backup", options, messages_of=["audio.requests"])
    before, messages = definitions(broker), taken(broker)
    nowhere = {**options, "docker_host": "unix:///nowhere/docker.sock"}
    assert run(broker, "rabbitmq_prove_backup", nowhere, scratch="container")["failed"]

    def scratch_vhosts():
        names = [each["name"] for each in broker.rabbitmq_api("GET", "/vhosts")]
        return [name for name in names if name.startswith("tracktion.ops-scratch-")]

    wanted = {**broker.login(), **nowhere}
    assert killed("rabbitmq_prove_backup", wanted, Kill("import of definitions", "after")).result is None
    # What a killed run has left is in no backup, and the next proof removes it. That of another host stays.
    assert len(scratch_vhosts()) == 1
    broker.rabbitmq_api("PUT", "/vhosts/tracktion.ops-scratch-00000000-1.00000000-0", {})
    left = run(broker, "rabbitmq_backup", options)
    assert left["counts"]["vhosts"] == made["counts"]["vhosts"]
    proven = run(broker, "rabbitmq_prove_backup", nowhere, stamp=made["stamp"])
    assert (proven.get("result"), proven["scratch"]) == ("proven", "scratch vhosts of the broker"), proven
    assert scratch_vhosts() == ["tracktion.ops-scratch-00000000-1.00000000-0"]
    broker.rabbitmq_api("DELETE", "/vhosts/tracktion.ops-scratch-00000000-1.00000000-0")
    assert (definitions(broker), taken(broker)) == (before, messages)
    # The broker leaves this out, and answers 204.
    document = json.loads((Path(made["path"]) / "definitions.json").read_text())
    document["policies"][0]["note"] = "x"
    items = _rabbitmq_definitions.counts(_rabbitmq_definitions.items(document))
    reseal(Path(made["path"]), "definitions.json", json.dumps(document).encode(), items=items)
    proven = run(broker, "rabbitmq_prove_backup", nowhere, stamp=made["stamp"])
    assert [each["item"] for each in proven["differences"]] == ["policies recovery lengths"]
    assert (definitions(broker), scratch_vhosts()) == (before, [])


def flipped(data, chosen):
    place = chosen.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chosen.randrange(8)]) + data[place + 1 :]


def reseal(folder, name, data, **contents):
    """Replace a file, and its checksum and some of the contents in the manifest."""
    (folder / name).write_bytes(data)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    manifest["contents"].update(contents)
    for each in manifest["files"]:
        if each["path"] == name:
            each.update(bytes=len(data), sha256=_manifests.checksum(data))
    path.write_bytes(_manifests.written(_manifests.sealed(manifest)))


def test_a_backup_is_refused_with_the_reason(broker, options):
    refused = run(broker, "rabbitmq_backup", options, login_password="wrong")
    assert refused["kind"] == "authentication"
    refused = run(broker, "rabbitmq_backup", options, login_user="recovering", login_password="recovering")
    assert refused["hint"].endswith("administrator monitoring`")
    refused = run(broker, "rabbitmq_backup", options, messages_of=["audio.requests"], max_messages=10)
    assert "more than max_messages (10)" in refused["msg"]
    assert broker.ready("audio.requests", "recovery") == MESSAGES
    assert run(broker, "rabbitmq_prove_backup", options)["kind"] == "no_backup"


def test_a_restore_is_refused_with_the_reason(broker, options):
    made = run(broker, "rabbitmq_backup", options)

    def refused(**more):
        return run(broker, "rabbitmq_restore_backup", options, check=True, **more)

    assert refused()["result"] == "planned"
    assert refused(name="another")["kind"] == "no_backup"
    with _operations.begin(options["state_dir"], "backup", "rabbitmq:rabbitmq"):
        assert refused()["kind"] == "busy"
        assert run(broker, "rabbitmq_backup", options)["kind"] == "busy"
    path = Path(made["path"]) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    manifest["contents"]["version"] = "99.0.1"
    path.write_bytes(_manifests.written(_manifests.sealed(manifest)))
    assert "the backup is of RabbitMQ 99.0.1" in refused()["msg"]
