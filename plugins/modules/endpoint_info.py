#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_info
short_description: Send requests to HTTP endpoints, and time each phase of the answers
version_added: 0.2.0
description:
  - Sends requests to all endpoints in parallel. It takes as long as the slowest endpoint, and at most O(deadline).
  - Returns for each endpoint whether it answers, whether the answer is the expected one, the time of each phase, and when its certificate
    expires.
  - An endpoint that does not answer is data, in its C(error); the task does not fail.
  - Passwords, headers and request bodies are never returned. Of an answer, only the beginning of a wrong one, the header C(Server) and the
    states that a health endpoint reports are returned, without what looks like a secret.
  - Requires only Python's standard library. Proxies are not used.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
options:
  endpoints:
    description: The endpoints. All entries are validated before the first request.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the endpoint in the result. It must be unique.
        type: str
        required: true
      url:
        description:
          - The URL. C(http://USER:PASSWORD@HOST/) uses basic authentication. User and password are not returned.
          - The values of query parameters with the name of a secret (token, key, password, ...) are not returned. Other values are, so
            put secrets into O(endpoints[].headers).
        type: str
        required: true
      service:
        description:
          - The compose service (or container name) behind the endpoint. If the endpoint fails, its container is returned.
          - If the address is one of this machine, RV(endpoints[].foreign) is whether something else answers there.
        type: str
      proxy:
        description:
          - What answers at the URL on behalf of O(endpoints[].service), as the name of a container, a compose service or a program.
          - Common proxies (nginx, HAProxy, Traefik, Caddy, Envoy, ...) and containers that are connected to the service are recognised
            without it, unless the service itself is to publish the port.
        type: str
      method:
        description: The method of the request.
        type: str
        choices: [GET, HEAD, POST]
        default: GET
      headers:
        description:
          - Headers of the request. Their values are never returned, and not sent to another server after a redirect.
        type: dict
      body:
        description: The body of the request. A mapping or a list is sent as JSON, other values as text.
        type: raw
      status:
        description: The expected statuses. A redirect status that is listed here is not followed.
        type: list
        elements: int
        default: [200]
      body_contains:
        description: A text that the answer must contain.
        type: str
      body_json:
        description:
          - 'Values that the answer must hold, as C({PATH: VALUE}). A path leads through mappings and lists, as in C(checks.database.healthy)
            or C(tracks.0.title).'
        type: dict
      requests:
        description: Number of requests, sent one after the other. The default is O(requests).
        type: int
      timeout:
        description: Seconds for each request, including redirects. The default is O(timeout).
        type: float
      max_body_bytes:
        description: Largest answer in bytes. The default is O(max_body_bytes).
        type: int
      max_redirects:
        description: Number of redirects to follow. With V(0), a redirect is an answer like any other.
        type: int
        default: 5
      address_family:
        description: The addresses of the host to try, in the order of the resolver, until one accepts the connection.
        type: str
        choices: [any, ipv4, ipv6]
        default: any
      validate_certs:
        description: Whether a certificate that cannot be verified is an error. If V(false), C(tls) still returns what is wrong with it.
        type: bool
        default: true
      ca_cert:
        description: File with the certificates of trusted authorities. The default is the system's.
        type: path
      client_cert:
        description: File with the client certificate.
        type: path
      client_key:
        description: File with the key of the client certificate, if it is not in O(endpoints[].client_cert).
        type: path
  requests:
    description: Number of requests to each endpoint, sent one after the other. An endpoint that does not answer gets one request.
    type: int
    default: 1
  timeout:
    description: Seconds for each request, including redirects.
    type: float
    default: 5.0
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 15.0
  max_body_bytes:
    description: Largest answer in bytes. A larger one is an error.
    type: int
    default: 1048576
  show_bodies:
    description:
      - Whether the beginning of a wrong answer, and the values found in it, are returned after redaction.
      - Redaction resolves escapes of JSON, URLs and HTML, and hides values with the name of a secret, everything that was sent, Base64, and
        words that look random. It cannot recognise a secret that is an ordinary word without such a name. Set V(false) if answers may hold
        one.
    type: bool
    default: true
  project:
    description: The compose project of the services, if the host runs several.
    type: str
  docker_root:
    description:
      - The data directory of the Docker engine, whose files describe the containers. Reading them requires root.
      - The default is the C(data-root) of C(/etc/docker/daemon.json), or C(/var/lib/docker).
    type: path
  docker_host:
    description:
      - Socket of the engine. It is used if O(docker_root) cannot be read, and for an engine without such files, such as Podman.
    type: str
    default: unix:///var/run/docker.sock
  restarts:
    description: Restarts by the restart policy within O(restarts_window) that are a crash loop (RV(endpoints[].container)).
    type: int
    default: 3
  restarts_window:
    description: Seconds for O(restarts).
    type: float
    default: 300.0
  starting_seconds:
    description: Seconds since the start of a container in which it counts as starting. The start period of its health check counts if it is longer.
    type: float
    default: 30.0
"""

EXAMPLES = r"""
- name: Check three services in parallel
  tracktion.ops.endpoint_info:
    endpoints:
      - {name: analysis_service, url: "http://localhost:8001/health"}
      - {name: tracklist_service, url: "http://localhost:8002/health", body_json: {status: healthy}}
      - {name: file_watcher, url: "http://localhost:8003/health"}
  register: health

- name: Fail if one is unhealthy, and name all that are
  ansible.builtin.assert:
    that: health.totals.ok == health.totals.endpoints
    fail_msg: "{{ health.endpoints | rejectattr('ok') | map(attribute='name') | join(', ') }}"

- name: Measure the latency of track matching over 20 requests
  tracktion.ops.endpoint_info:
    endpoints:
      - name: match
        url: "https://api.example.org/match?title=Intro&artist=The+xx"
        headers:
          Authorization: "Bearer {{ api_token }}"
        requests: 20
    deadline: 60
"""

RETURN = r"""
reachable: {description: "Always true. Whether an endpoint is reachable is in RV(endpoints[].answered).", returned: always, type: bool, sample: true}
error: {description: "Always null. The failure of an endpoint is in RV(endpoints[].error).", returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
seconds: {description: Duration of the whole measurement., type: float, returned: always, sample: 0.2113}
engine: {description: "The kind of the container engine, V(docker) or V(podman). V(docker) if there is none.", type: str, returned: always, sample: docker}
totals: {description: "Number of endpoints, and of endpoints with the expected answer.", type: dict, returned: always, sample: {endpoints: 3, ok: 2}}
endpoints:
  description: The endpoints, in the order of O(endpoints). All fields except RV(endpoints[].latency) describe the first request.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the endpoint., type: str, returned: always, sample: tracklist_service}
    url: {description: "The URL, without user, password and secret parameters.", type: str, returned: always, sample: "http://localhost:8002/health"}
    host: {description: Host of the URL., type: str, returned: always, sample: localhost}
    service: {description: "The compose service, as given.", type: str, returned: always, sample: tracklist_service}
    method: {description: "The method, as given.", type: str, returned: always, sample: GET}
    ok:
      description:
        - Whether the answer is the expected one, neither a login page nor the report of an unhealthy service.
        - Null if no request was sent before the deadline, or if the deadline left too little of the timeout.
      returned: always
      type: bool
      sample: false
    answered: {description: "Whether a complete answer came, whatever its content.", type: bool, returned: always, sample: true}
    error:
      description:
        - Why no complete answer came, as C(kind), C(message) and C(hint); else null. C(kind) is one of the following.
        - V(name_resolution), the host name cannot be resolved. V(refused), nothing listens at the address. V(timeout), no connection within
          the timeout. V(no_route), the host is unreachable.
        - V(no_answer), a connection, and no answer within the timeout. V(unfinished), the answer begins and does not end within the timeout.
          V(closed), the connection was closed or reset. V(too_large), the answer is larger than O(max_body_bytes).
        - V(protocol), the answer is not HTTP, or the scheme of the URL does not match the server. V(tls), the TLS handshake failed.
          V(certificate), the certificate is not trusted.
        - V(redirect_loop), V(too_many_redirects), V(bad_redirect), the redirects do not lead to an answer. V(failed), another failure.
      returned: always
      type: dict
      sample: null
    phase:
      description: The last phase that was reached, one of V(dns), V(connect), V(tls), V(first_byte), V(body).
      returned: always
      type: str
      sample: body
    address: {description: "The address of the host that accepted the connection, or the last one tried.", type: str, returned: always, sample: "127.0.0.1"}
    port: {description: Port of the URL., type: int, returned: always, sample: 8002}
    status: {description: "HTTP status of the answer, after redirects.", type: int, returned: always, sample: 503}
    expected_status: {description: The expected statuses., type: list, elements: int, returned: always, sample: [200]}
    status_ok: {description: Whether the status is an expected one., type: bool, returned: always, sample: false}
    server: {description: "The header Server of the answer, redacted.", type: str, returned: always, sample: nginx}
    proxy:
      description:
        - The name of the proxy that gave an error by itself, because its upstream server does not answer or because it rejects the request.
          Null if the error is that of the service.
      returned: always
      type: str
      sample: nginx
    is_login:
      description: Whether the URL of a health endpoint (by its path) is answered with a page for a login, maybe after redirects.
      returned: always
      type: bool
      sample: false
    report:
      description:
        - What a health endpoint (by its path, such as C(/health), or by its content type) reports in its body. Null if it reports nothing.
        - C(healthy) is whether it reports that it is healthy, C(reduced) whether it or a dependency is degraded. C(state) is its own word.
        - C(failing) lists the dependencies that it reports as not healthy, at most 10. Only C(healthy) and C(reduced) are returned if
          O(show_bodies) is V(false).
      returned: always
      type: dict
      sample: {healthy: false, reduced: false, state: DOWN, failing: [{path: components.db, state: DOWN, reason: connection refused}]}
    named:
      description: The dependencies that endpoints of the same service report as failing, by their C(report.failing); at most 20.
      returned: always
      type: list
      elements: str
      sample: [components.db]
    body:
      description:
        - The body of the answer. C(ok) is whether O(endpoints[].body_contains) and O(endpoints[].body_json) hold, C(contains) whether
          O(endpoints[].body_contains) does.
        - C(mismatches) are the paths with another value than expected, C(mismatch_count) is their total number. C(found) is null if the path
          does not exist or is null.
        - C(excerpt) is the beginning of a wrong answer, without what looks like a secret. It is null for a right answer, or if O(show_bodies)
          is V(false). For an answer that is not UTF-8, such as a compressed one, it is a note.
      returned: always
      type: dict
      sample:
        bytes: 310
        ok: true
        contains: null
        mismatches: []
        mismatch_count: 0
        excerpt: '{"service": "tracklist_service", "status": "unhealthy", "checks": {"database": {"healthy": false}}}'
    seconds:
      description:
        - Seconds in each phase, including redirects. C(first_byte) is from the request to the first byte of the answer. A phase that was not
          reached is null, and so is C(tls) without TLS. C(total) is the whole time.
      returned: always
      type: dict
      sample: {dns: 0.0009, connect: 0.0001, tls: null, first_byte: 0.0121, body: 0.0002, total: 0.0134}
    redirects:
      description: Number of redirects, and their targets without the values of query parameters.
      returned: always
      type: dict
      sample: {count: 0, urls: []}
    tls:
      description:
        - The TLS connection and the certificate, null without TLS. C(problem) is null or V(expired), V(not_yet_valid), V(wrong_name),
          V(self_signed), V(untrusted), V(revoked); C(message) is OpenSSL's text for it. C(begins) and C(expires) are epoch seconds.
      returned: always
      type: dict
      sample:
        verified: true
        problem: null
        message: null
        version: TLSv1.3
        subject: CN=api.example.org
        issuer: CN=Example CA, O=Example
        names: [api.example.org]
        begins: 1790000000.0
        expires: 1797776000.0
        seconds_left: 7776000.0
    latency:
      description:
        - Seconds of the right answers. C(wanted) is the configured number of requests, C(made) the number sent before the deadline.
        - Percentiles are by nearest rank. C(p95_seconds) is the time of one of the answers, which 95 of 100 did not exceed; of fewer than 20
          answers it is the slowest.
        - C(failed) is the number of wrong or missing answers, C(failures) lists their kinds.
      returned: always
      type: dict
      sample: {wanted: 20, made: 20, failed: 0, failures: [], p50_seconds: 0.0121, p95_seconds: 0.0313, max_seconds: 0.0402}
    foreign:
      description:
        - Whether something else than O(endpoints[].service) answers, so that the answer says nothing about the service. Null if that cannot be
          found out. False for another machine, and if nothing shows that the service belongs to this machine.
      returned: always
      type: bool
      sample: false
    responder:
      description:
        - What answers at an address of this machine, by the ports of containers and the listening sockets of the kernel. Null if that is not
          known, and without O(endpoints[].service).
        - C(relation) is V(service), V(proxy) (it forwards to the service) or V(other); null if it is not known.
        - C(compose_options) are the options of C(docker compose) for the project whose files have the service, if the service has no container.
      returned: always
      type: dict
      sample: {relation: service, container: tracktion-tracklist_service-1, service: tracklist_service, project: tracktion, pid: 4242, command: python3 main.py,
        compose_options: []}
    container:
      description:
        - The container of O(endpoints[].service) if the endpoint fails or is RV(endpoints[].foreign), else null. Null if the host has no engine.
          Of several, the one that answers, or the one that is to publish the port.
        - C(looping) is whether it is in a crash loop, C(starting) whether it has started only now, C(wants_port) whether it is to publish the
          port of the URL, C(publishes) whether it does. C(listens) is whether something in it listens on its C(inner_port), one of V(yes),
          V(loopback), V(no). C(hint) is the next step by its state, null for one that runs.
      returned: always
      type: dict
      sample: {name: tracktion-tracklist_service-1, project: tracktion, service: tracklist_service, state: running, exit_code: 0,
        error_message: null, restarts: 0, started: 1790000000.0, uptime_seconds: 86400.0, health: healthy, looping: false, starting: false,
        wants_port: true, publishes: true, listens: "yes", inner_port: 8002, hint: null}
    cpu:
      description:
        - The use of the CPU by the container of O(endpoints[].service) during the measurement, from its control group. Null if it cannot be read.
        - C(throttled_ratio) is the part of the C(sampled_periods) in which its limit stopped it, C(limit_cpus) the limit, null without one.
          C(hint) is how to raise it.
      returned: always
      type: dict
      sample: {container: tracktion-tracklist_service-1, limit_cpus: 0.5, cpu_ratio: 0.5, throttled_ratio: 0.95, sampled_periods: 21,
        hint: "Raise the CPU limit of its container, now (`docker update --cpus 1 tracktion-tracklist_service-1`) and in the compose file (cpus)"}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._http._http_redact import secrets_in
from ansible_collections.tracktion.ops.plugins.module_utils._measures._endpoint_info import ARGUMENT_SPEC, measure


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    # The module's arguments, with the URLs, are part of its result.
    for endpoint in module.params["endpoints"]:
        module.no_log_values.update(secrets_in(endpoint["url"]))
    exit_module(module, partial(measure, module.params))


if __name__ == "__main__":
    main()
