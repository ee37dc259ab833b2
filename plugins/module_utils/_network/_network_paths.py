# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All ways that are wanted, gone at the same time. Private to this collection.

From each container they are gone by a process of its own, which enters the container's network namespace.
"""

from __future__ import annotations

from functools import partial

from ansible_collections.tracktion.ops.plugins.module_utils import _side_by_side
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    error,
    out_of_time,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns, _network_namespace
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_host import ANY_ADDRESS
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_path import RESULT, Target

# Containers that are looked from at most: each takes a process.
MAX_CONTAINERS = 40
# What a process gets beyond the deadline, to bring home what it has found.
GRACE_SECONDS = 0.25
HERE, RESOLVER = "here", "resolver"
# Failures of a DNS server, whatever it was asked for.
SERVER_FAILURES = ("servfail", "dns_timeout", "dns_refused", "dns_denied", "dns_no_route")
# Network modes that lead to nobody.
NOWHERE = ("none", "orphaned")
NOT_MEASURED = "it could not be measured"
# A name that every resolver knows, or knows that it does not exist, without asking anybody.
HARMLESS_NAME = "localhost."
ANSWERS = (None, "nxdomain", "no_address", "servfail", "dns_denied")


class Paths:
    """The ways that are wanted, by the containers they start from."""

    def __init__(self, wanted, engine, project, unknown):
        self.entries, self.by_container = [], {}
        self.known = True
        containers = set()
        if wanted and engine.host is None:
            self._give_up(engine.reason, engine.hint, unknown)
            wanted = []
        for service, target in wanted:
            found = engine.host.of_service(service, project or None)
            containers.update(found)
            running = [container for container in found if container.running]
            for container in running or found[:1] or [None]:
                self._add(service, target, container, engine.host, unknown)
        self.projects = {container.project for container in containers if container.project}

    def _add(self, service, target, container, host, unknown):
        entry = dict.fromkeys(RESULT)
        entry.update(repeats=False, also_unresolved=[])
        entry.update(measured=False, service=service, to=target.to, host=target.host, port=target.port)
        entry.update(container=container and container.name, project=container and container.project)
        entry["compose_options"] = container.compose_options if container else []
        entry.update(_neighbours(target.host, container, host))
        self.entries.append(entry)
        if container is None:
            entry["reason"] = "this host has no container of %s" % service
        elif not container.running:
            told = (container.name, container.state, container.exit_code)
            entry["reason"] = "%s does not run (%s, exit code %s)" % told
        elif container.id not in self.by_container and len(self.by_container) >= MAX_CONTAINERS:
            entry["reason"] = "more than %d containers are not looked from" % MAX_CONTAINERS
        else:
            self._look_from(container, entry, target, unknown)

    def _look_from(self, container, entry, target, unknown):
        try:
            _network_namespace.look(container.pid, container.id)
        except _network_namespace.Gone as exc:
            entry["reason"] = "%s cannot be looked from: %s" % (container.name, exc)
            return
        except _network_namespace.Forbidden as exc:
            if self.known:
                self._give_up(str(exc), exc.hint, unknown)
        self.by_container.setdefault(container.id, (container.pid, []))[1].append((entry, target))

    def _give_up(self, reason, hint, unknown):
        """Nothing is known of any way."""
        self.known = False
        for part in ("paths", "sources"):
            unknown.add(part, reason, hint)

    def jobs(self, timeout, deadline):
        """One per container: what to run in a process of its own."""
        for identity, (pid, ways) in self.by_container.items() if self.known else ():
            targets = [target for _entry, target in ways]
            yield identity, partial(_network_namespace.follow_from, pid, targets, timeout, deadline)

    def take(self, identity, results, reason):
        """Note what came of the ways of one container."""
        for number, (entry, _target) in enumerate(self.by_container[identity][1]):
            result = dict(results[number]) if results and results[number] else {"reason": reason or NOT_MEASURED}
            ended = result.pop("ended", False)
            entry.update(result)
            entry["measured"] = True if entry["ok"] is not None else False if ended else None
        entries = [entry for entry, _target in self.by_container[identity][1]]
        # Who has no network at all has one trouble, wherever it goes.
        nowhere = [entry for entry in entries if entry["network_mode"] in NOWHERE and entry["ok"] is False]
        for entry in nowhere[1:]:
            entry["repeats"] = True
        # A server that fails is one trouble, however many names it is asked for.
        unresolved = [entry for entry in entries if entry["failure"] in SERVER_FAILURES]
        for number, entry in enumerate(unresolved):
            entry["repeats"] = entry["repeats"] or number > 0
            entry["also_unresolved"] = [other["host"] for other in unresolved if other is not entry]

    def sources(self, unknown):
        """The services that ways start from: whether all their ways were gone, and why not."""
        found = {}
        for entry in self.entries:
            source = found.setdefault(entry["service"], {"measured": True, "targets": [], "reason": None})
            if entry["to"] not in source["targets"]:
                source["targets"].append(entry["to"])
            if source["measured"] is not False and not entry["measured"]:
                source.update(measured=entry["measured"], reason=entry["reason"])
            source.update(container=entry["container"], project=entry["project"])
        for service, source in found.items():
            if source["measured"] is None:
                unknown.add("sources.%s" % service, source["reason"])
        return [dict(source, service=service) for service, source in found.items()]


def _neighbours(name, container, host):
    """What is known of the containers that a name means: whether one runs, and shares a network with us."""
    found = host.behind(name, container) if container else []
    running = [each for each in found if each.running]
    common = None
    # On the host's network there are no names of containers, yet ways to all of them.
    if running and container.running and "host" not in {each.network_mode for each in [container, *running]}:
        common = any(set(each.networks) & set(container.networks) for each in running)
    target = (running or found or [None])[0]
    return {
        "networks": container.networks if container else [],
        "network_mode": container and container.network_mode,
        "network_owner": _owner(container),
        "target_container": target and target.name,
        "target_state": target and target.state,
        "target_networks": sorted({name for each in running for name in each.networks}),
        "target_network_mode": target and target.network_mode,
        "target_network_owner": _owner(target),
        "common_network": common,
    }


def _owner(container):
    """The name of the container whose network it shares."""
    return container.owner.name if container and container.owner else None


def go(paths, external, ports, options, deadline, unknown):
    """Go all ways at the same time: the parts ``paths``, ``external``, ``published_ports`` and ``resolver``."""
    timeout = options["timeout"]
    jobs = dict(paths.jobs(timeout, deadline))
    tried = [Target(_dialled(port)) for port in ports or ()]
    if external or tried:
        jobs[HERE] = partial(_from_here, external + tried, timeout, deadline)
    has_resolver = options["check_resolver"] and not deadline.too_short(timeout)
    if options["check_resolver"] and not has_resolver:
        unknown.add("resolver", out_of_time(deadline.remaining()))
    if has_resolver:
        jobs[RESOLVER] = partial(_ask_resolvers, Deadline(deadline.remaining(timeout)))
    seconds = deadline.remaining() + GRACE_SECONDS
    outcomes = _side_by_side.run({name: (seconds, {"results": job}) for name, job in jobs.items()})
    found = {name: _results(outcome) for name, outcome in outcomes.items()}
    for identity in paths.by_container if paths.known else ():
        paths.take(identity, *found[identity])
    here, reason = found.get(HERE, ([], None))
    empty = dict(dict.fromkeys(RESULT), reason=reason)
    gone = [(here[number] if here else None) or empty for number in range(len(external) + len(tried))]
    gone = [{name: result[name] for name in RESULT} for result in gone]
    for target, result in zip(external, gone):
        if result["ok"] is None:
            unknown.add("external.%s" % target.to, result["reason"] or NOT_MEASURED)
    for port, result in zip(ports or (), gone[len(external) :]):
        port.update({name: result[name] for name in ("ok", "reason", "failure", "error", "connect_seconds")})
        if port["ok"] is None:
            part = "published_ports.%s %d" % (port["container"], port["host_port"])
            unknown.add(part, port["reason"] or NOT_MEASURED)
    resolver, why = found.get(RESOLVER, (None, None))
    if why:
        unknown.add("resolver", why)
    return {
        "paths": paths.entries if paths.known else None,
        "sources": paths.sources(unknown) if paths.known else None,
        "external": [
            dict(result, to=target.to, host=target.host, port=target.port) for target, result in zip(external, gone)
        ],
        "published_ports": ports,
        "resolver": resolver if options["check_resolver"] else {"checked": False, "servers": []},
    }


def _dialled(port):
    address = ANY_ADDRESS.get(port["host_address"], port["host_address"])
    return "%s:%d" % ("[%s]" % address if ":" in address else address, port["host_port"])


def _results(outcome):
    """``(what a process found, why it found nothing)``."""
    results = outcome["measurement"].get("results")
    if isinstance(results, dict) and results.get("reachable", True) is None:
        return None, results["error"]["message"]
    if results is None:
        return None, (outcome["error"] or {}).get("message") or NOT_MEASURED
    return results, None


def _from_here(targets, timeout, deadline):
    return _network_namespace.follow_all(targets, _network_namespace.read_configuration(), timeout, deadline)


def _ask_resolvers(deadline):
    """What the servers in this machine's resolv.conf answer, one after the other as everybody asks them."""
    configuration = _network_namespace.read_configuration()
    servers = []
    for number, server in enumerate(configuration.servers):
        started = deadline.remaining()
        problem = None
        try:
            _dns.ask(HARMLESS_NAME, server, started / (len(configuration.servers) - number))
        except CannotConnect as exc:
            problem = configuration.explained(exc)
        kind = problem.kind if problem else None
        servers.append(
            {
                "address": server,
                "answers": kind in ANSWERS,
                "seconds": round(started - deadline.remaining(), 6),
                "error": error(problem) if problem and kind not in ANSWERS else None,
            }
        )
    return {
        "checked": True,
        "servers": servers,
        "answering": sum(server["answers"] for server in servers),
        "first_answers": servers[0]["answers"],
    }
