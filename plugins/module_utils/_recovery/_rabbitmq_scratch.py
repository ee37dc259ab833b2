# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scratch broker that imports definitions. Private to this collection.

It is a container of the server's image without a network. Definitions are imported and exported by rabbitmqctl in it,
so that neither a port nor a password is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Failure, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _scratch_container

# Exchanges that each vhost has.
OF_THE_BROKER = "amq."
NODE = "tracktion-scratch@localhost"
WORK, DATA = "/work", "/data"
# Debian keeps the programs apart from its wrappers, which change the user; the official image has them in /opt.
PATH = "/usr/lib/rabbitmq/bin:/opt/rabbitmq/sbin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POLL_SECONDS = 0.5
# A line of the log or of rabbitmqctl that says why.
CAUSE = ("error", "reason", "failed", "invalid", "not_found", "cannot")
CONFIGURATION = "listeners.tcp = none\nlog.console = true\nlog.file = false\n"
FIRST_TIMEOUT = "60"


class NotImported(Failure):
    """The scratch broker rejects the definitions: the message is what it reports."""

    kind = "not_imported"


class Source(NamedTuple):
    """The image of the scratch broker, and where it was found, for messages."""

    image: str
    name: str


def source(image: str | None, container: str | None, host: str, port: int, api: DockerApi) -> Source:
    """Return the image to run: ``image``, else that of the container with this name, or that publishes the port.

    Raises NoScratch, CannotConnect.
    """
    if image:
        return Source(image, image)
    rows = api.read("containers", "json", all=1)
    if container:
        found = [row for row in rows if container in [name.lstrip("/") for name in row.get("Names") or ()]]
    else:
        found = [row for row in rows if _serves(row, host, port)]
    if len(found) != 1:
        raise _scratch_container.NoScratch(
            "the image of the broker is not known: %d containers of this host %s"
            % (len(found), "are called %s" % container if container else "serve port %d" % port),
            "Set `image` to the image of the broker, or `container` to the name of its container: `docker ps`",
        )
    name = found[0]["Names"][0].lstrip("/")
    return Source(found[0]["ImageID"], "the image of %s" % name)


def _serves(row: Mapping[str, Any], host: str, port: int) -> bool:
    """Return whether a container publishes the port, or has the address and the port itself."""
    if any(each.get("PublicPort") == port for each in row.get("Ports") or ()):
        return True
    networks = ((row.get("NetworkSettings") or {}).get("Networks") or {}).values()
    return any(each.get("IPAddress") == host for each in networks)


class Broker:
    """A running scratch broker. ``work`` is the directory of this process that it sees as ``WORK``."""

    def __init__(self, scratch: _scratch_container.Scratch, work: str) -> None:
        self._scratch = scratch
        self._work = work

    def ctl(self, *words: str) -> str:
        """Return the output of rabbitmqctl. Raises NotImported, CannotConnect."""
        code, output = self._scratch.run("rabbitmqctl", "--node", NODE, *words)
        if code != 0:
            raise NotImported("rabbitmqctl %s: %s" % (words[0], cause(output.splitlines(), code)))
        return output

    def import_(self, document: Mapping[str, Any]) -> None:
        """Import definitions. Raises NotImported, CannotConnect, OSError."""
        path = os.path.join(self._work, "import.json")
        with open(path, "w", encoding="utf-8") as stream:
            json.dump(document, stream)
        self.ctl("import_definitions", "%s/import.json" % WORK)

    def export(self) -> Any:
        """Return the definitions of the broker. Raises NotImported, CannotConnect, OSError."""
        path = os.path.join(self._work, "export.json")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.ctl("export_definitions", "%s/export.json" % WORK)
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)

    def internal_exchanges(self, vhost: str) -> list[dict[str, Any]]:
        """Return the internal exchanges of a vhost as definitions: rabbitmqctl does not export them.

        Raises NotImported, CannotConnect.
        """
        fields = ("name", "type", "durable", "auto_delete", "internal", "arguments")
        text = self.ctl("list_exchanges", "--quiet", "--formatter", "json", "--vhost", vhost, *fields)
        try:
            rows = json.loads(text)
        except ValueError as exc:
            raise NotImported("rabbitmqctl list_exchanges: %s" % exc)
        return [
            dict(row, vhost=vhost, arguments=_table(row["arguments"]))
            for row in rows
            if row.get("internal") and not row["name"].startswith(OF_THE_BROKER)
        ]

    def version(self) -> str:
        """Return the version of the broker. Raises NotImported, CannotConnect."""
        return self.ctl("version", "--quiet").strip().splitlines()[-1].strip()


@contextlib.contextmanager
def started(api: DockerApi, image: str, work: str, plugins: Sequence[str]) -> Iterator[Broker]:
    """Yield a scratch broker with these plugins. ``work`` is a private directory of this process.

    Raises NoScratch, CannotConnect, OSError.
    """
    _write(work, "rabbitmq.conf", CONFIGURATION)
    _write(work, "enabled_plugins", "[%s].\n" % ",".join(sorted(plugins)))
    environment = {
        "PATH": PATH,
        "HOME": DATA,
        "RABBITMQ_NODENAME": NODE,
        "RABBITMQ_CONFIG_FILE": "%s/rabbitmq.conf" % WORK,
        "RABBITMQ_ENABLED_PLUGINS_FILE": "%s/enabled_plugins" % WORK,
        "RABBITMQ_MNESIA_BASE": "%s/mnesia" % DATA,
        "RABBITMQ_LOG_BASE": "%s/log" % DATA,
        "RABBITMQ_PID_FILE": "%s/pid" % DATA,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }
    container = _scratch_container.Scratch(
        api, image, ["rabbitmq-server"], {WORK: (work, True)}, environment, tmpfs=[DATA]
    )
    with container as scratch:
        _wait(scratch, api)
        yield Broker(scratch, work)


def _wait(scratch: _scratch_container.Scratch, api: DockerApi) -> None:
    """Wait until the broker has started. Raises NoScratch, CannotConnect."""
    output = ""
    while True:
        code = scratch.exit_code()
        if code is not None:
            raise _scratch_container.NoScratch(
                "the scratch broker has ended: %s" % cause(scratch.log(), code),
                "Start the image by hand to see why, or set `image` to another one.",
            )
        # The first call of a client creates the cookie if the server has not: wait until the server has.
        if any("Starting" in line or "completed with" in line or "boot step" in line for line in scratch.log()):
            code, output = scratch.run("rabbitmqctl", "--node", NODE, "await_startup", "--timeout", FIRST_TIMEOUT)
            if code == 0:
                return
        if api.deadline.remaining() <= POLL_SECONDS:
            raise _scratch_container.NoScratch(
                "the scratch broker has not started within the deadline %s" % cut(output, 200), "Raise `deadline`."
            )
        time.sleep(POLL_SECONDS)


def cause(lines: Sequence[str], code: int | None) -> str:
    """Return the lines of an output that say why a program failed."""
    lines = [printable(line).strip() for line in lines if line.strip()]
    chosen = [line for line in lines if any(word in line.lower() for word in CAUSE)] or lines[-2:]
    return cut(" ".join(chosen[:3]), 400) or "exit code %s" % code


def _table(arguments: Any) -> dict[str, Any]:
    """Return arguments as a mapping: rabbitmqctl prints none, or triples of name, type and value, as a list."""
    return arguments if isinstance(arguments, dict) else {each[0]: each[-1] for each in arguments or []}


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
        stream.write(text)
