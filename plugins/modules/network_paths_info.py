#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: network_paths_info
short_description: Find out whether services reach what they need, and what stands between
version_added: "0.1.0"
description:
  - Goes the ways that compose services go, from inside their network namespaces. Resolves the name as the container's own C(resolv.conf) and
    C(hosts) say, connects, and makes an HTTP request where that is asked for. Nothing of the container's image is used, so that it needs no shell,
    no curl and no ping.
  - Looks at what of the host stands between. The networks of the Docker engine and the routes that cross them, the rules of iptables
    and of nftables, forwarding, the configuration of the engine, the published ports and the host's own resolver.
  - All ways are gone at the same time, each container's by a process of its own.
  - Measure on the host, as root. What could not be read is null, and named in RV(unknown).
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker.socket
options:
  paths:
    description: The ways that services go. From every running container of the service.
    type: list
    elements: dict
    default: []
    suboptions:
      from:
        description: The compose service, or the name of the container, that goes the way.
        type: str
        required: true
      to:
        description:
          - Where it goes, as C(host:port), as C(tls://host:port), or as a URL of C(http) or C(https) without user and password.
          - Use C(tls://) for a port that speaks TLS. Servers such as Redis log a connection without a handshake as an error.
        type: str
        required: true
      method:
        description: The method of the request where O(paths[].to) is a URL. A redirection is not followed.
        type: str
        choices: [GET, HEAD]
        default: GET
      validate_certs:
        description: Whether the certificate must be signed by an authority that this host trusts, and name its host.
        type: bool
        default: true
  external_endpoints:
    description: What this host itself must reach, as in O(paths[].to).
    type: list
    elements: str
    default: []
  check_resolver:
    description: Whether each of the host's DNS servers is asked for C(localhost).
    type: bool
    default: true
  project:
    description:
      - The compose project whose services, networks and published ports are meant.
      - Without it, those projects that have a service named in O(paths).
    type: str
    default: ""
  docker_root:
    description: The data directory of the Docker engine. Without it, the one that the engine names.
    type: path
  daemon_config:
    description: The configuration file of the Docker engine.
    type: path
    default: /etc/docker/daemon.json
  top:
    description: How many networks and overlaps are returned at most.
    type: int
    default: 20
  timeout:
    description: Seconds for each step of a way (name, connection, request), for each question to the engine and each program.
    type: float
    default: 3.0
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 15.0
notes:
  - The packets that are sent are DNS questions, TCP connections that are closed at once, and the requests that were asked for.
  - What rules do with packets is concluded only where it is certain. A rule that depends on the sender, say, makes it V(undetermined).
seealso:
  - module: tracktion.ops.docker_unused_network
"""

EXAMPLES = r"""
- name: Go the ways of one service
  tracktion.ops.network_paths_info:
    project: tracktion
    paths:
      - {from: analysis_service, to: "postgres:5432"}
      - {from: analysis_service, to: "http://tracklist_service:8002/health"}
  become: true
  register: network

- name: Name the ways that do not work
  ansible.builtin.debug:
    msg: "{{ item.service }} does not reach {{ item.to }}: {{ item.error.message }}"
  loop: "{{ network.paths | selectattr('error') }}"
  loop_control:
    label: "{{ item.service }}"
"""

RETURN = r"""
reachable:
  description: Always true. Whether the Docker engine answers is in RV(engine).
  returned: always
  type: bool
  sample: true
error:
  description: Always null.
  returned: always
  type: dict
  sample: null
unknown:
  description: What could not be read, as a list of C(part) and C(reason).
  returned: always
  type: list
  elements: dict
  sample: []
engine:
  description:
    - Whether this host has a Docker engine, whether it answers, and if not, why (C(kind), C(message), C(hint)).
    - C(kind) is V(permission), V(no_engine) (its files are there, its socket is not), V(refused) (nobody listens there), V(timeout),
      V(rejected) (it says no), V(deadline) (there was no time left to ask) or V(failed).
  returned: always
  type: dict
  sample: {present: true, answers: true, error: null}
paths:
  description: The ways of O(paths), from every running container. Null where the namespaces cannot be entered.
  returned: always
  type: list
  elements: dict
  contains:
    service: {description: The service it starts from., type: str, returned: always}
    container: {description: Its container., type: str, returned: always}
    project: {description: Its compose project., type: str, returned: always}
    compose_options:
      description: The options of C(docker compose) that name its project and files; empty where there is no container, or compose noted none on it.
      type: list
      elements: str
      returned: always
    to: {description: 'Where it leads, a URL without its query.', type: str, returned: always}
    host: {description: The name that was resolved., type: str, returned: always}
    port: {description: The port., type: int, returned: always}
    measured: {description: Whether the way was gone; null where there was no time for it., type: bool, returned: always}
    reason: {description: 'Why it was not, else null.', type: str, returned: always}
    ok: {description: Whether its end was reached; null where it was not gone., type: bool, returned: always}
    failure:
      description:
        - What stopped it, else null.
        - Of the name, V(nxdomain), V(no_address), V(servfail), V(dns_timeout), V(dns_refused), V(dns_denied), V(dns_no_route)
          or V(bad_name).
        - Of the connection, V(refused), V(timeout), V(no_route), V(reset), V(closed) (as soon as it was open), V(forbidden) or V(failed).
        - Of the request, V(http_status), V(http_timeout), V(http_closed), V(not_http) or V(tls).
      type: str
      returned: always
    error: {description: 'The same as C(kind), C(message) and C(hint).', type: dict, returned: always}
    addresses: {description: What the name resolved to., type: list, elements: str, returned: always}
    address: {description: The address that took the connection., type: str, returned: always}
    silent_addresses:
      description: Those of the addresses that have a route and do not answer, where another one took the connection; else null.
      type: list
      elements: str
      returned: always
    dns_seconds: {description: How long the name took., type: float, returned: always}
    connect_seconds: {description: How long the connection took., type: float, returned: always}
    http_status: {description: The status of the answer., type: int, returned: always}
    http_seconds: {description: How long the answer took., type: float, returned: always}
    repeats:
      description: Whether the failure of the DNS server, or the lack of any network, that another way of this container met already stopped this one.
      type: bool
      returned: always
    also_unresolved: {description: What else the container could not resolve then., type: list, elements: str, returned: always}
    networks: {description: The container's networks., type: list, elements: str, returned: always}
    network_mode:
      description:
        - V(networks) of its own, V(host), V(none), V(shared) (with C(network_owner), another container) or V(orphaned) (it shares one
          that leads nowhere, as its container is gone or was started anew).
      type: str
      returned: always
    network_owner: {description: 'The container whose network it shares, else null.', type: str, returned: always}
    target_container: {description: 'The container that the name means, null where it means none.', type: str, returned: always}
    target_state: {description: Its state., type: str, returned: always}
    target_networks: {description: The networks of the running containers that the name means., type: list, elements: str, returned: always}
    target_network_mode: {description: The same as C(network_mode) of the container that the name means., type: str, returned: always}
    target_network_owner: {description: The same as C(network_owner) of the container that the name means., type: str, returned: always}
    common_network:
      description: Whether both share a network; null where the name means no running container, or one of both is on the network of the host.
      type: bool
      returned: always
  sample:
    - {service: analysis_service, container: tracktion-analysis_service-1, project: tracktion, to: "postgres:5432", host: postgres, port: 5432,
       measured: true, reason: null, ok: true, failure: null, error: null, repeats: false, also_unresolved: [],
       addresses: [172.20.1.3], address: 172.20.1.3, silent_addresses: [], dns_seconds: 0.0012,
       connect_seconds: 0.0001, http_status: null, http_seconds: null, networks: [tracktion_default],
       network_mode: networks, network_owner: null, target_container: tracktion-postgres-1, target_state: running,
       target_networks: [tracktion_default], target_network_mode: networks, target_network_owner: null, common_network: true}
sources:
  description: The services that the ways start from, whether all ways of theirs were gone, and if not, why. Null where RV(paths) is.
  returned: always
  type: list
  elements: dict
  sample:
    - {service: analysis_service, container: tracktion-analysis_service-1, project: tracktion, targets: ["postgres:5432"], measured: true,
       reason: null}
external:
  description: The ways of O(external_endpoints), with the fields of RV(paths) from C(to) to C(http_seconds) but C(measured).
  returned: always
  type: list
  elements: dict
  sample:
    - {to: "https://api.example.com/health", host: api.example.com, port: 443, reason: null, ok: true, failure: null, error: null, addresses: [192.0.2.7],
       address: 192.0.2.7, silent_addresses: [], dns_seconds: 0.02, connect_seconds: 0.011, http_status: 200, http_seconds: 0.05}
resolver:
  description: What the DNS servers of the host answer, in the order in which they are asked; C(checked) alone where that was not wanted.
  returned: always
  type: dict
  sample:
    checked: true
    servers: [{address: 192.0.2.53, answers: true, seconds: 0.001, error: null}]
    answering: 1
    first_answers: true
networks:
  description:
    - The networks of the engine, those of the project first. Null where the engine does not tell.
    - C(containers) are all that are attached, also those that are stopped. C(unused) is true for a network that has none and may be removed.
  returned: always
  type: list
  elements: dict
  sample:
    - {id: 6d1aff69ed8c, name: tracktion_default, driver: bridge, scope: local, project: tracktion, internal: false, bridge: br-6d1aff69ed8c,
       subnets: [172.20.3.0/24], containers: [tracktion-redis-1], containers_total: 1, age_seconds: 3600.0, removable: true, protected: false,
       ours: true, unused: false}
networks_total:
  description: How many networks the engine has.
  returned: always
  type: int
  sample: 4
overlaps:
  description:
    - Where a route of the host claims addresses of a network of the engine. Default routes and routes to nowhere do not count.
    - C(loser) is V(containers) where the route takes their packets away, V(route) where the network hides a part of what the route leads to.
  returned: always
  type: list
  elements: dict
  sample: [{network: tracktion_default, subnet: 172.20.3.0/24, route: 172.20.0.0/16, device: tun0, table: main, loser: route}]
published_ports:
  description:
    - The TCP ports that running containers of the project publish, each with a connection from the host.
    - C(firewall) is what the rules of iptables and nftables do with connections from outside, V(accepted), V(dropped) (by C(rule), which
      C(rule_command), a list of words, shows with its counter) or V(undetermined); null where the port is open to the host alone, or the rules are not known.
  returned: always
  type: list
  elements: dict
  sample:
    - {host_address: 0.0.0.0, host_port: 8001, container_port: 8001, container: tracktion-analysis_service-1, service: analysis_service,
       project: tracktion, networks: [tracktion_default],
       loopback: false, ok: true, reason: null, failure: null, error: null, connect_seconds: 0.0001, firewall: accepted, rule: null,
       rule_command: null}
forwarding:
  description: Whether the kernel forwards IPv4, and whether containers of the project need it.
  returned: always
  type: dict
  sample: {ipv4: true, needed: true}
packet_filter:
  description:
    - The policy of the FORWARD chain, whether the chains of the engine are still called (C(docker_forward), C(docker_nat)), and who else
      manages the rules (V(ufw), V(firewalld)). Null where the rules cannot be read.
  returned: always
  type: dict
  sample: {needed: true, forward_policy: DROP, docker_forward: true, docker_nat: true, managers: []}
daemon:
  description:
    - Whether the engine can start with its configuration file, and what that (or a flag that it was started with) says about the network.
    - C(conflicts) are settings of the file that the engine, which runs or that its unit would start, is given as flags too. It refuses to start then.
  returned: always
  type: dict
  sample:
    {path: /etc/docker/daemon.json, exists: true, valid: true, problem: null, conflicts: [], iptables: null, ip_forward: null, userland_proxy: null,
     bridge: null, dns: [192.0.2.53], address_pools: null, firewall_backend: null}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures._network_paths_info import ARGUMENT_SPEC, measure


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(measure, module.params))


if __name__ == "__main__":
    main()
