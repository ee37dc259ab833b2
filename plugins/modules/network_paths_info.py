#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: network_paths_info
short_description: Test the network paths of services, and read the network configuration of the host
version_added: 0.2.0
description:
  - Tests the connections of compose services from inside their network namespaces. Resolves the name by the container's own C(resolv.conf) and
    C(hosts), connects, and sends an HTTP request if the target is a URL. No program of the image is used, so the image needs no shell,
    curl or ping.
  - Reads the network configuration of the host, which is the networks of the Docker engine and the routes that overlap with them, the rules of
    iptables and nftables, forwarding, the configuration of the engine, the published ports and the DNS servers of the host.
  - All paths are tested at the same time, those of each container by a process of its own.
  - Run it on the host, as root. A part that could not be read is null, and listed in RV(unknown).
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker.socket
options:
  paths:
    description: The connections that services need. Each is tested from every running container of the service.
    type: list
    elements: dict
    default: []
    suboptions:
      from:
        description: The compose service, or the name of the container, that connects.
        type: str
        required: true
      to:
        description:
          - The target, as C(host:port), as C(tls://host:port), or as a URL of C(http) or C(https) without user and password.
          - Use C(tls://) for a port that speaks TLS. Servers such as Redis log a connection without a handshake as an error.
        type: str
        required: true
      method:
        description: The method of the request if O(paths[].to) is a URL. Redirects are not followed.
        type: str
        choices: [GET, HEAD]
        default: GET
      validate_certs:
        description: Whether the certificate must be signed by an authority that this host trusts, and contain the host name.
        type: bool
        default: true
  external_endpoints:
    description: Targets that this host itself must reach, in the format of O(paths[].to).
    type: list
    elements: str
    default: []
  check_resolver:
    description: Whether each DNS server of the host and of the containers of the project is queried for C(localhost).
    type: bool
    default: true
  project:
    description:
      - The compose project whose services, networks and published ports are measured.
      - If empty, the projects that have a service named in O(paths).
    type: str
    default: ""
  docker_root:
    description: The data directory of the Docker engine. If omitted, the one that the engine returns.
    type: path
  daemon_config:
    description: The configuration file of the Docker engine.
    type: path
    default: /etc/docker/daemon.json
  top:
    description: Maximum number of networks and of overlaps to return.
    type: int
    default: 20
  timeout:
    description: Seconds for each step of a path (name, connection, TLS, request), each request to the engine and each program.
    type: float
    default: 3.0
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 15.0
notes:
  - The module sends DNS queries, opens TCP connections that it closes at once, sends the requests that O(paths) name, and one to three rounds of
    ICMP echo requests and of TCP segments without a connection to each target that accepts a connection.
  - The verdict of the rules is returned only if it is certain. With a rule on the sender, for example, it is V(undetermined).
seealso:
  - module: tracktion.ops.docker_unused_network
"""

EXAMPLES = r"""
- name: Test the connections of one service
  tracktion.ops.network_paths_info:
    project: tracktion
    paths:
      - {from: analysis_service, to: "postgres:5432"}
      - {from: analysis_service, to: "http://tracklist_service:8002/health"}
  become: true
  register: network

- name: Show the connections that fail
  ansible.builtin.debug:
    msg: "{{ item.service }} cannot reach {{ item.to }}: {{ item.error.message }}"
  loop: "{{ network.paths | selectattr('error') }}"
  loop_control:
    label: "{{ item.service }}"
"""

RETURN = r"""
reachable: {description: Always true. Whether the Docker engine answers is in RV(engine)., returned: always, type: bool, sample: true}
error: {description: Always null., returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
engine:
  description:
    - Whether this host has a Docker engine, whether it answers, and the C(error) if not (C(kind), C(message), C(hint)).
    - C(kind) is, for example, V(permission), V(refused), V(timeout), V(no_answer), V(deadline), or V(no_engine) (its files exist, its socket does not).
  returned: always
  type: dict
  sample: {present: true, answers: true, error: null}
paths:
  description: The paths of O(paths), from every running container. Null if the namespaces cannot be entered.
  returned: always
  type: list
  elements: dict
  contains:
    service: {description: The service that connects., type: str, returned: always}
    container: {description: Its container., type: str, returned: always}
    project: {description: Its compose project., type: str, returned: always}
    compose_options:
      description: The options of C(docker compose) that name its project and files; empty without a container, or if its labels have none.
      type: list
      elements: str
      returned: always
    to: {description: 'The target, a URL without its query.', type: str, returned: always}
    host: {description: The name that was resolved., type: str, returned: always}
    port: {description: The port., type: int, returned: always}
    measured: {description: Whether the path was tested; null if there was no time for it., type: bool, returned: always}
    reason: {description: 'Why it was not tested, else null.', type: str, returned: always}
    ok: {description: Whether the target answers; null if it was not tested., type: bool, returned: always}
    failure:
      description:
        - The kind of C(error), else null.
        - Of the name, V(nxdomain), V(no_address), V(servfail), V(dns_timeout), V(dns_refused) (nothing listens on port 53), V(dns_denied)
          (the server replies REFUSED), V(dns_no_route) or V(name_resolution) (the name is not valid).
        - Of the connection, V(refused), V(timeout), V(no_route), V(closed) (closed at once, or reset), V(permission) (a rule of the host
          forbids it) or V(failed).
        - Of TLS and the request, V(tls), V(certificate), V(no_answer), V(closed), V(protocol) (the answer is not HTTP) or V(http_status).
      type: str
      returned: always
    error: {description: 'The failure as C(kind), C(message) and C(hint), else null.', type: dict, returned: always}
    addresses: {description: The addresses of the name., type: list, elements: str, returned: always}
    name_source:
      description: V(hosts) for the hosts file, V(dns), or V(address) if the name is an address. Null if the name was not resolved.
      type: str
      returned: always
    name_server: {description: The DNS server that has the name; C(127.0.0.11) is that of the engine., type: str, returned: always}
    found_as: {description: 'The name for which the DNS server has addresses, with a search domain if one was added.', type: str, returned: always}
    search_domain: {description: 'The search domain that was added to the name, else null.', type: str, returned: always}
    hosts_origin:
      description:
        - Why the hosts file has the name. V(extra_hosts) and V(link) are settings of the container, V(hostname) is the container's own name,
          V(mount) a file that is mounted, V(file) a change in the container. Null if the name is not from the hosts file.
      type: str
      returned: always
    hosts_file: {description: 'The file on this host that is mounted as hosts file, else null.', type: str, returned: always}
    resolved_by: {description: Where the addresses come from in a few words., type: str, returned: always}
    wrong_addresses:
      description:
        - The addresses that belong to no container with this name. Null if this host has no container with this name in the same project and
          its compose file has no such service; then nothing is known about them.
      type: list
      elements: str
      returned: always
    misled: {description: Whether all addresses are C(wrong_addresses)., type: bool, returned: always}
    owners:
      description:
        - Whom each of C(wrong_addresses) belongs to, as a C(container) (with its C(project)), or the C(process) of this host that listens on the port.
          C(local) is whether this host has the address.
      type: list
      elements: dict
      returned: always
    listening:
      description:
        - What listens on the port in the network of the target container, if the failure is V(refused), V(closed), V(timeout) or V(no_answer).
          The C(addresses), whether these are C(loopback) addresses only, the C(command), the connections C(waiting) to be accepted, and the
          C(other_ports) on which servers listen for clients. Else null.
      type: dict
      returned: always
    address: {description: The address that accepted the connection., type: str, returned: always}
    silent_addresses:
      description: The addresses that have a route and do not answer, if another one accepted the connection; else null.
      type: list
      elements: str
      returned: always
    refusing_addresses:
      description: The addresses of IPv4 that refuse the connection, if another one of IPv4 accepted it; else null.
      type: list
      elements: str
      returned: always
    dns_seconds: {description: Seconds to resolve the name., type: float, returned: always}
    connect_seconds: {description: Seconds to connect., type: float, returned: always}
    mtu:
      description:
        - Which packets pass to the target, by packets that may not be fragmented, which the kernel of the target answers. These are ICMP echo requests,
          and TCP segments without a connection (IPv4). The lengths contain the IP header.
        - C(packet_bytes) is the length of a full TCP segment of this connection. C(passes) is whether it is answered, null if
          that is not known. C(filtered) is whether it cannot be known, because short packets are not answered, or a
          rule limits ICMP. C(largest_bytes) is the largest that was answered, C(path_bytes) the MTU of the path that the kernel
          knows, C(host_bytes) that of the route of this host.
        - Null without a connection, and for a connection within this host or container.
      type: dict
      returned: always
    http_status: {description: The HTTP status., type: int, returned: always}
    http_seconds: {description: Seconds to the HTTP response., type: float, returned: always}
    repeats:
      description: Whether it fails for the same reason as another path of this container, a failed DNS server or no network.
      type: bool
      returned: always
    also_unresolved: {description: Other names that the container could not resolve because of the DNS server., type: list, elements: str, returned: always}
    networks: {description: The container's networks., type: list, elements: str, returned: always}
    network_mode:
      description:
        - V(networks) of its own, V(host), V(none), V(shared) (with C(network_owner), another container) or V(orphaned) (it shares the
          network of a container that was removed or restarted, which is not connected anymore).
      type: str
      returned: always
    network_owner: {description: 'The container whose network it shares, else null.', type: str, returned: always}
    target_container: {description: 'The container with that name, null if there is none.', type: str, returned: always}
    target_service: {description: Its compose service., type: str, returned: always}
    target_project: {description: Its compose project., type: str, returned: always}
    target_compose_options: {description: The same as C(compose_options) for the target container., type: list, elements: str, returned: always}
    target_state: {description: Its state., type: str, returned: always}
    target_addresses: {description: The addresses of the running containers with that name., type: list, elements: str, returned: always}
    target_networks: {description: The networks of the running containers with that name., type: list, elements: str, returned: always}
    target_network_mode: {description: The same as C(network_mode) for the target container., type: str, returned: always}
    target_network_owner: {description: The same as C(network_owner) for the target container., type: str, returned: always}
    common_network:
      description: Whether both containers share a network; null without a running target container, or if one is on the network of the host.
      type: bool
      returned: always
    file_networks:
      description:
        - The networks of the container by its compose file, as C(names) of the file and C(full_names) of the engine, and its network_mode as
          C(mode). Null if both containers share a network, or if the file is not known or not certain.
      type: dict
      returned: always
    target_file_networks: {description: The same as C(file_networks) for the target container., type: dict, returned: always}
    reconnect:
      description:
        - The words after C(docker network connect) that give both containers a network which both should have, by their compose files or
          by how they were created. Empty if both share a network, or if there is no such network.
      type: list
      elements: list
      returned: always
    recreate:
      description: The services that have to be created again to get such a network, with their C(compose_options).
      type: list
      elements: dict
      returned: always
    apart: {description: Whether the compose files give both containers no common network; null if not known., type: bool, returned: always}
    rename:
      description: The words after C(docker network) of two commands that give the target container the name, if it lacks it on a common network.
      type: list
      elements: list
      returned: always
  sample:
    - {service: analysis_service, container: tracktion-analysis_service-1, project: tracktion, to: "postgres:5432", host: postgres, port: 5432,
       measured: true, reason: null, ok: true, failure: null, error: null, repeats: false, also_unresolved: [],
       addresses: [172.20.1.3], name_source: dns, name_server: 127.0.0.11, found_as: postgres, search_domain: null, hosts_origin: null,
       hosts_file: null, resolved_by: 127.0.0.11, wrong_addresses: [], misled: false, owners: [], listening: null,
       address: 172.20.1.3, silent_addresses: [], refusing_addresses: [], dns_seconds: 0.0012,
       connect_seconds: 0.0001, mtu: {packet_bytes: 1500, passes: true, filtered: false, largest_bytes: 1500, path_bytes: 1500, host_bytes: 1500},
       http_status: null, http_seconds: null, networks: [tracktion_default],
       network_mode: networks, network_owner: null, target_container: tracktion-postgres-1, target_service: postgres,
       target_project: tracktion,
       target_compose_options: [], target_state: running, target_addresses: [172.20.1.3],
       file_networks: null, target_file_networks: null, reconnect: [], recreate: [], apart: null, rename: [],
       target_networks: [tracktion_default], target_network_mode: networks, target_network_owner: null, common_network: true}
sources:
  description: The services that connect, whether all their paths were tested, and if not, why. Null if RV(paths) is null.
  returned: always
  type: list
  elements: dict
  sample:
    - {service: analysis_service, container: tracktion-analysis_service-1, project: tracktion, targets: ["postgres:5432"], measured: true,
       reason: null}
external:
  description: The paths to O(external_endpoints), with the fields of RV(paths) from C(to) to C(http_seconds) without C(measured).
  returned: always
  type: list
  elements: dict
  sample:
    - {to: "https://api.example.com/health", host: api.example.com, port: 443, reason: null, ok: true, failure: null, error: null, addresses: [192.0.2.7],
       name_source: dns, name_server: 192.0.2.53, found_as: api.example.com,
       address: 192.0.2.7, silent_addresses: [], refusing_addresses: [], dns_seconds: 0.02, connect_seconds: 0.011, mtu: null,
       http_status: 200, http_seconds: 0.05}
resolver:
  description:
    - The DNS servers of the host, in the order of C(resolv.conf), and whether they answer. C(checked) is false without O(check_resolver).
    - C(upstream) are the servers behind that of systemd-resolved, which answers itself even if these do not.
  returned: always
  type: dict
  sample:
    checked: true
    servers: [{address: 192.0.2.53, answers: true, seconds: 0.001, error: null}]
    answering: 1
    first_answers: true
    upstream: []
container_resolvers:
  description:
    - The DNS servers of each running container of the project with a network that leads out of this host; those behind the engine's server
      C(127.0.0.11) instead of this one. They are queried from the network of the container, or from the host if the engine does so.
    - C(origin) is who names the server. V(container) and V(engine) are their settings, V(host) is C(resolv.conf) of this host, V(file) that of the
      container. C(failing) are the servers that do not answer, and are not among those that do not answer the host itself (C(fails_on_host)).
    - Engines before 25.0 do not show which servers they query, so without C(dns) settings these are the current ones of the host.
  returned: always
  type: list
  elements: dict
  sample:
    - {container: tracktion-redis-1, service: redis, project: tracktion, compose_options: [],
       servers: [{address: 192.0.2.53, answers: true, seconds: 0.001, error: null, origin: host, fails_on_host: false}],
       answering: 1, failing: []}
networks:
  description:
    - The networks of the engine, those of the project first. Null if the engine does not answer.
    - C(containers) are all attached containers, running or stopped. C(unused) is true for a network that has none and may be removed.
  returned: always
  type: list
  elements: dict
  sample:
    - {id: 6d1aff69ed8c, name: tracktion_default, driver: bridge, scope: local, project: tracktion, internal: false, bridge: br-6d1aff69ed8c,
       subnets: [172.20.3.0/24], containers: [tracktion-redis-1], containers_total: 1, age_seconds: 3600.0, removable: true, protected: false,
       ours: true, unused: false}
networks_total: {description: Number of networks of the engine., type: int, returned: always, sample: 4}
overlaps:
  description:
    - Routes of the host that overlap with a network of the engine. Default routes and unreachable routes do not count.
    - C(loser) is V(containers) if packets for containers take the route, V(route) if packets for the destination of the route go to the network.
  returned: always
  type: list
  elements: dict
  sample: [{network: tracktion_default, subnet: 172.20.3.0/24, route: 172.20.0.0/16, device: tun0, table: main, loser: route}]
published_ports:
  description:
    - The TCP ports that running containers of the project publish, and the result of a connection from the host.
    - C(firewall) is the verdict of the rules of iptables and nftables for connections from outside, V(accepted), V(dropped) (by C(rule), which
      C(rule_command), a list of words, shows with its counter) or V(undetermined); null for a port on a loopback address, or if the rules are not known.
    - C(held_by) is the process that listens on the port of the host, if it is not one of the engine (C(pid), C(command)); null if there is none, or without
      the right to see it. C(listening) is the same as in RV(paths), for the port of the container.
    - C(reconnect) are the words after C(docker network connect) for a container that has lost all its networks.
  returned: always
  type: list
  elements: dict
  sample:
    - {host_address: 0.0.0.0, host_port: 8001, container_port: 8001, container: tracktion-analysis_service-1, service: analysis_service,
       project: tracktion, networks: [tracktion_default],
       loopback: false, ok: true, reason: null, failure: null, error: null, connect_seconds: 0.0001, firewall: accepted, rule: null,
       rule_command: null, held_by: null, listening: null, reconnect: []}
forwarding:
  description: Whether the kernel forwards IPv4, and whether containers of the project need it.
  returned: always
  type: dict
  sample: {ipv4: true, needed: true}
packet_filter:
  description:
    - The policy of the FORWARD chain, whether it and the nat table jump to the chains of the engine (C(docker_forward), C(docker_nat)), and
      other programs that manage the rules (V(ufw), V(firewalld)). Null if the rules cannot be read.
  returned: always
  type: dict
  sample: {needed: true, forward_policy: DROP, docker_forward: true, docker_nat: true, managers: []}
daemon:
  description:
    - Whether the engine can start with its configuration file, and the settings for the network in that file or in the flags of the engine.
    - C(conflicts) are settings of the file that are also flags of the engine, running or in its unit. With these it does not start.
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
