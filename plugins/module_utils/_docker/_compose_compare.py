# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares a service of a compose file with a container, value by value. Private to this collection.

A value of the file that a variable decides is compared only as far as it is certain. If the container has the value
that compose would make of it here and now, the container confirms the variables in it.
"""

from __future__ import annotations

import os
import shlex
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_file, _compose_text
from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_file import File, Layer, Service, text_of
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SHARES
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners

CONFIG_HASH = "com.docker.compose.config-hash"
# What is reported. Other values only confirm variables.
REPORTED = ("image", "memory_limit_bytes", "environment", "command", "entrypoint", "ports", "mounts", "networks")
# Parts of a service that running containers do not depend on.
NOT_APPLIED = ("build", "profiles", "scale", "depends_on", "develop", "pull_policy", "extends")
# compose sets these from the configuration of its user.
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
# Modes of a network that are no networks.
SPECIAL_MODES = ("host", "none")
# A value that no variable has.
SENTINEL = "\0"

# The configuration of an image by its id, null if unknown.
ImageOf = Callable[[str], "Mapping[str, Any] | None"]


class Pair(NamedTuple):
    """One value in the file, as its text, and in the container; null where it is missing."""

    what: str
    # Of the variable, port or target; empty for what has one value only.
    name: str
    text: str | None
    running: str | None


def pairs(service: Service, file: File, data: Mapping[str, Any], image_of: ImageOf, detailed: bool) -> list[Pair]:
    """Return all pairs of a service and the inspection of one of its containers.

    ``detailed``: also those of which the engine keeps what compose has set. That is known for Docker only.
    """
    config, host = data.get("Config") or {}, data.get("HostConfig") or {}
    found = []
    if service["image"] is not None:
        found.append(Pair("image", "", service["image"], config.get("Image") or ""))
    if service["memory"] is not None or not service["partly"]:
        found.append(Pair("memory_limit_bytes", "", service["memory"] or "0", str(host.get("Memory") or 0)))
    if detailed and CONFIG_HASH in (config.get("Labels") or {}):
        container = _Container(service, file, data, image_of)
        for part in (
            container.environment,
            container.command,
            container.ports,
            container.mounts,
            container.networks,
            container.others,
        ):
            found += part()
    return found


class _Container:
    """A container that compose created, beside its service in the file."""

    def __init__(self, service: Service, file: File, data: Mapping[str, Any], image_of: ImageOf) -> None:
        self.layer: Layer = service["layer"]
        self.partly = service["partly"]
        self.file = file
        self.data = data
        self.config: Mapping[str, Any] = data.get("Config") or {}
        self.host: Mapping[str, Any] = data.get("HostConfig") or {}
        self.project = (self.config.get("Labels") or {}).get(PROJECT) or ""
        self._image_of = image_of

    def image(self) -> Mapping[str, Any] | None:
        """Return the configuration of its image, null if it is unknown."""
        return self._image_of(self.data.get("Image") or "")

    def environment(self) -> Iterator[Pair]:
        """Yield the environment: variables of the file, then those that neither the file nor the image has."""
        running = variables(self.config.get("Env") or [])
        wanted, complete = self.wanted_environment()
        passed = passed_through(self.layer)
        for name, text in sorted(wanted.items()):
            # Null: a number that compose writes in another way.
            if text is not None:
                yield Pair("environment", name, text, running.get(name, "" if name in passed else None))
        rest = [name for name in sorted(set(running) - set(wanted)) if name.lower() not in PROXIES]
        image = self.image() if rest and complete and not self.partly else None
        if image is not None:
            own = variables(image.get("Env") or [])
            for name in rest:
                if own.get(name) != running[name]:
                    yield Pair("environment", name, fixed(own.get(name)), running[name])

    def wanted_environment(self) -> tuple[dict[str, str | None], bool]:
        """Return the variables of the file, and whether these are all."""
        wanted: dict[str, str | None] = {}
        complete = True
        files = self.layer.get("env_file") or []
        for each in files if isinstance(files, list) else [files]:
            path = text_of(each.get("path") if isinstance(each, dict) else each) or ""
            known = _compose_text.certain(path)
            try:
                if not known:
                    raise _compose_file.Unreadable(path)
                required = text_of(each.get("required", True)) == "true" if isinstance(each, dict) else True
                for name, value, literal in _compose_file.dotenv_lines(
                    _compose_file.located(known, self.file.directory), required
                ):
                    # Of escapes and values of several lines only compose knows the value.
                    odd = "\\" in value or value[:1] in ("'", '"')
                    wanted[name] = None if odd else fixed(value) if literal else value
                    complete = complete and not odd
            except _compose_file.Unreadable:
                complete = False
        wanted.update(keyed_texts(self.layer.get("environment")))
        wanted.update((name, "${%s}" % name) for name in passed_through(self.layer))
        return wanted, complete

    def command(self) -> Iterator[Pair]:
        """Yield the entrypoint and the command, by the file or else by the image."""
        has_entrypoint = "entrypoint" in self.layer
        for what, field in (("entrypoint", "Entrypoint"), ("command", "Cmd")):
            running = words_of(self.config.get(field))
            if what in self.layer:
                wanted = self.words(self.layer[what])
                if wanted is not None:
                    yield Pair(what, "", wanted, running)
            elif not self.partly and (what == "entrypoint" or not has_entrypoint):
                image = self.image()
                if image is not None:
                    yield Pair(what, "", fixed(words_of(image.get(field))), running)

    def words(self, value: Any) -> str | None:
        """Return a command of the file as ``words_of`` does; null if that is not certain, or if it is empty."""
        if isinstance(value, str):
            if _compose_text.names(value):
                return None
            try:
                value = shlex.split(value)
            except ValueError:
                return None
        if not value or not isinstance(value, list):
            return None
        texts = [text_of(each) for each in value]
        return None if None in texts else words_of([text or "" for text in texts])

    def ports(self) -> Iterator[Pair]:
        """Yield the published ports. None if an entry of the file is not certain."""
        if self.layer.get("network_mode") or (self.partly and not self.layer.get("ports")):
            return
        wanted: dict[str, set[str]] = {}
        for port in self.layer.get("ports") or []:
            found = published(port)
            if found is None:
                return
            for inner, outer in found:
                wanted.setdefault(inner, set()).add(outer)
        running = {
            inner: {host_port(each.get("HostIp") or "", each.get("HostPort") or "") for each in bindings or []}
            for inner, bindings in (self.host.get("PortBindings") or {}).items()
        }
        for inner in sorted({*wanted, *(() if self.partly else running)}):
            file_side = wanted.get(inner)
            if file_side and len(file_side) > 1 and any(_compose_text.names(each) for each in file_side):
                continue
            yield Pair("ports", inner, joined(file_side), joined(running.get(inner)))

    def mounts(self) -> Iterator[Pair]:
        """Yield the mounts, by their path in the container."""
        wanted: dict[str, str | None] = {}
        complete = not self.partly
        for volume in self.layer.get("volumes") or []:
            target, text = self.mounted(volume)
            if target is None:
                complete = False
            else:
                wanted[target] = text
        running = {
            mount.get("Destination", "").rstrip("/"): "%s:%s"
            % (
                mount.get("Name") if mount.get("Type") == "volume" else mount.get("Source"),
                "rw" if mount.get("RW") else "ro",
            )
            for mount in self.data.get("Mounts") or []
            if mount.get("Type") in ("bind", "volume")
        }
        for target, text in sorted(wanted.items()):
            if text is not None:
                yield Pair("mounts", target, text, running.get(target))
        rest = sorted(set(running) - set(wanted))
        if not rest or not complete or {"configs", "secrets", "volumes_from", "use_api_socket"} & set(self.layer):
            return
        image = self.image()
        if image is not None:
            own = {path.rstrip("/") for path in image.get("Volumes") or {}}
            for target in rest:
                if target not in own:
                    yield Pair("mounts", target, None, running[target])

    def mounted(self, volume: Any) -> tuple[str | None, str | None]:
        """Return the target of a volume of the file, and ``source:rw``; null for what is not certain or compared."""
        if isinstance(volume, dict):
            kind, source, target = volume.get("type"), text_of(volume.get("source")), text_of(volume.get("target"))
            is_read_only = text_of(volume.get("read_only", False))
            if is_read_only not in ("true", "false"):
                return None, None
            mode = "ro" if is_read_only == "true" else "rw"
        else:
            parts = _compose_text.split(str(volume), ":")
            source, target = (None, parts[0]) if len(parts) == 1 else (parts[0], parts[1])
            options = parts[2] if len(parts) > 2 else ""
            if _compose_text.names(options):
                return None, None
            kind, mode = None, "ro" if "ro" in options.split(",") else "rw"
        target = _compose_text.certain(target or "")
        if not target:
            return None, None
        target = target.rstrip("/")
        if not source or kind not in (None, "bind", "volume"):
            # An anonymous volume, or one in memory.
            return target, None
        if kind == "volume" or (kind is None and source[0] not in "./~$"):
            name = self.full_name(self.file.volumes, source)
            return target, None if name is None else "%s:%s" % (name, mode)
        if source[0] == "~":
            return target, None
        if source[0] == "." or (kind == "bind" and source[0] not in "/$"):
            path = _compose_text.certain(source)
            source = (
                fixed(_compose_file.located(path, self.file.directory))
                if path is not None
                else os.path.join(self.file.directory, source[2:] if source.startswith("./") else source)
            )
        elif source[0] == "/":
            source = source.rstrip("/") or "/"
        return target, "%s:%s" % (source, mode)

    def full_name(self, of_top_level: Layer, name: str) -> str | None:
        """Return the text of the name that the engine has for a network or volume of the file; null if unknown."""
        if _compose_text.names(name):
            return None
        defined = of_top_level.get(name) or {}
        external = defined.get("external")
        given = text_of(defined.get("name"))
        if given is None and isinstance(external, dict):
            given = text_of(external.get("name"))
        if given is not None:
            return given
        if text_of(external) not in (None, "false") or isinstance(external, dict):
            return name
        return "%s_%s" % (self.project, name)

    def networks(self) -> Iterator[Pair]:
        """Yield the network mode, or the networks."""
        mode = text_of(self.layer.get("network_mode"))
        running_mode = self.host.get("NetworkMode") or ""
        if mode is not None:
            if not mode.startswith(("service:", SHARES)):
                yield Pair("networks", "mode", mode, running_mode)
            return
        if self.partly and "networks" not in self.layer:
            return
        running = (self.data.get("NetworkSettings") or {}).get("Networks") or {}
        special = running_mode in SPECIAL_MODES and running_mode not in running
        if special or running_mode.startswith(SHARES):
            yield Pair("networks", "mode", None, running_mode)
            return
        names = [self.full_name(self.file.networks, name) for name in self.layer.get("networks") or ["default"]]
        wanted = [name for name in names if name is not None]
        certain = {_compose_text.certain(name) for name in wanted}
        for text in wanted:
            name = _compose_text.certain(text)
            if name is not None:
                yield Pair("networks", name, fixed(name), name if name in running else None)
            elif len(running) == len(names) == 1:
                yield from (Pair("networks", "", text, only) for only in running)
        if len(certain - {None}) == len(names):
            # Others may have been connected by hand.
            for name in sorted(running):
                if name.startswith(self.project + "_") and name not in certain:
                    yield Pair("networks", name, None, name)

    def others(self) -> Iterator[Pair]:
        """Yield values that only confirm variables."""
        found = {
            "container_name": (self.data.get("Name") or "").lstrip("/"),
            "user": self.config.get("User"),
            "working_dir": self.config.get("WorkingDir"),
            "hostname": self.config.get("Hostname"),
            "restart": (self.host.get("RestartPolicy") or {}).get("Name"),
        }
        for name, running in found.items():
            text = text_of(self.layer.get(name))
            if text:
                yield Pair(name, "", text, running)
        labels = self.config.get("Labels") or {}
        for name, text in keyed_texts(self.layer.get("labels")):
            if text is not None:
                yield Pair("labels", name, text, labels.get(name))


def network_names(service: Service, file: File, data: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the engine's name of each network of a service by its name in the file; null if a variable decides it."""
    container = _Container(service, file, data, lambda _image: None)
    names = {
        str(name): container.full_name(file.networks, name) for name in service["layer"].get("networks") or ["default"]
    }
    return {name: None if text is None else _compose_text.certain(text) for name, text in names.items()}


def variables(lines: Sequence[str]) -> dict[str, str]:
    """Return the environment of a container or of an image by name."""
    return {name: value for name, _equals, value in (line.partition("=") for line in lines)}


def keyed_texts(value: Any) -> Iterator[tuple[str, str | None]]:
    """Yield the names and texts of a mapping, or of a list of NAME=value; null for a name without a certain text."""
    keyed = _compose_file.keyed(value) or {}
    for name, each in keyed.items():
        yield str(name), text_of(each)


def passed_through(layer: Layer) -> list[str]:
    """Return the variables without a value in the file, which compose takes from the shell."""
    keyed = _compose_file.keyed(layer.get("environment")) or {}
    return [str(name) for name, value in keyed.items() if value is None]


def fixed(value: Any) -> Any:
    """Return the text of the file that stands for this value, null for null."""
    return None if value is None else value.replace("$", "$$")


def words_of(words: Any) -> str:
    """Return the words of a command as one text."""
    return "\n".join(words or [])


def host_port(address: str, port: str) -> str:
    """Return where a port is published. No address and that of all interfaces are the same, as are 0 and no port."""
    return "%s:%s" % ("" if address in (_listeners.ANY_IPV4, "::") else address, "" if port == "0" else port)


def joined(values: set[str] | None) -> str | None:
    """Return the values as one text, sorted; null for null."""
    return None if values is None else ", ".join(sorted(values))


def published(port: Any) -> list[tuple[str, str]] | None:
    """Return ``container port/protocol`` and ``address:port`` of an entry of ``ports``; null if that is not certain."""
    if isinstance(port, dict):
        inner, outer = text_of(port.get("target")), text_of(port.get("published")) or ""
        address, protocol = text_of(port.get("host_ip")) or "", text_of(port.get("protocol")) or "tcp"
    else:
        text = text_of(port)
        if text is None:
            return None
        *before, inner = _compose_text.split(text, ":")
        inner, _slash, protocol = inner.partition("/")
        outer = before[-1] if before else ""
        address = before[0].strip("[]") if len(before) > 1 else ""
    if not inner or any(_compose_text.names(each) for each in (inner, protocol or "", address)):
        return None
    first, dash, last = inner.partition("-")
    if not dash:
        # Of a range of ports of the host, the engine takes one.
        is_range = "-" in outer and not _compose_text.names(outer)
        return None if is_range else [("%s/%s" % (inner, protocol or "tcp"), host_port(address, outer))]
    start, _dash, end = outer.partition("-")
    if not all(each.isdigit() for each in (first, last, start, end)):
        return None
    if int(last) - int(first) != int(end) - int(start) or int(last) - int(first) > 1000:
        return None
    return [
        ("%d/%s" % (int(first) + step, protocol or "tcp"), host_port(address, str(int(start) + step)))
        for step in range(int(last) - int(first) + 1)
    ]


def is_same(pair: Pair, value: str | None, directory: str = "/") -> bool:
    """Return whether the container has this value of the file."""
    running = pair.running
    if value is None or running is None:
        return value is running
    if pair.what == "image":
        return is_same_image(value, running)
    if pair.what == "memory_limit_bytes":
        return str(_compose_file.size(value)) == running
    if pair.what == "ports" and value.endswith(":0"):
        value = value[:-1]
    if pair.what == "mounts" and value.startswith("."):
        path, _colon, mode = value.rpartition(":")
        value = "%s:%s" % (_compose_file.located(path, directory), mode)
    return value == running


def is_same_image(file: str, running: str) -> bool:
    """Return whether two names, or a name and an id, can be those of the same image."""
    file, running = _compose_file.full_name(file), _compose_file.full_name(running)
    # Podman adds the registry to the name of an image; Docker replaces the name by the id once the tag has moved.
    registry, _slash, found_there = running.partition("/")
    is_there = ("." in registry or ":" in registry) and found_there == file
    return running == file or is_there or running.startswith("sha256:")


def differs(pair: Pair) -> bool:
    """Return whether the values certainly differ, whatever the variables of the file are."""
    if pair.text is None or pair.running is None:
        return pair.text is not pair.running
    value = _compose_text.certain(pair.text)
    if value is not None:
        unknown = pair.what == "memory_limit_bytes" and _compose_file.size(value) is None
        return not unknown and not is_same(pair, value)
    if pair.what == "image":
        running = _compose_file.full_name(pair.running)
        untagged = running[: -len(":latest")] if running.endswith(":latest") else running
        candidates = (pair.running, running, untagged, running.partition("/")[2])
        return not running.startswith("sha256:") and not any(_compose_text.fits(pair.text, one) for one in candidates)
    return pair.what != "memory_limit_bytes" and not _compose_text.fits(pair.text, pair.running)


def unconfirmed(service: Service, file: File, found: Sequence[Pair], others: Sequence[Pair] = ()) -> list[str]:
    """Return the variables of a service for which compose may use another value here than when it was deployed.

    ``found`` are the pairs of its container, ``others`` those of other containers of its project: they count for
    variables that no value of its own depends on.
    """
    layer = {name: value for name, value in service["layer"].items() if name not in NOT_APPLIED}
    wanted = set(names_in(layer)) | {name for pair in found for name in _compose_text.names(pair.text or "")}
    wanted.update(passed_through(layer))
    # Compose rejects a malformed variable.
    wanted.discard("")
    left = []
    for name in sorted(wanted):
        seen = [is_confirmed(name, pair, file) for pair in found]
        if not [each for each in seen if each is not None]:
            seen = [is_confirmed(name, pair, file) for pair in others]
        known = [each for each in seen if each is not None]
        if not known or not all(known):
            left.append(name)
    return left


def names_in(value: Any) -> Iterator[str]:
    """Yield the names of the variables in all texts of a part of the file."""
    if isinstance(value, dict):
        for each in value.values():
            yield from names_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from names_in(each)
    elif isinstance(value, str):
        yield from _compose_text.names(value)


def is_confirmed(name: str, pair: Pair, file: File) -> bool | None:
    """Return whether a container has the value that a variable has here; null if the value does not depend on it."""
    text = pair.text
    if text is None or pair.running is None or name not in _compose_text.names(text):
        return None
    if differs(pair):
        # A fixed part of the text was changed: nothing can be concluded about the variable.
        return None
    value = _compose_text.filled(text, file.environment)
    if value == _compose_text.filled(text, {**file.environment, name: SENTINEL}):
        return None
    return is_same(pair, value, file.directory)
