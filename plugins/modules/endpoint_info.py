#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_info
short_description: Ask HTTP endpoints, and time every phase of their answers
version_added: "0.1.0"
description:
  - Asks all endpoints side by side, as curl would do one after the other. It takes as long as the slowest of them, and at most O(deadline).
  - Tells of each whether it answers, whether the answer is the expected one, where the time went, and when its certificate expires.
  - An endpoint that does not answer is data, in its C(error), and the task does not fail.
  - Passwords, headers and bodies that are sent are never returned, nor is an answer. The beginning of a wrong answer is, without what
    looks like a secret.
  - Needs nothing but Python's standard library. Proxies are not used.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
options:
  endpoints:
    description: What is asked. Nothing is, before all entries are understood.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is called in the result. Every endpoint has a name of its own.
        type: str
        required: true
      url:
        description:
          - Its address. C(http://USER:PASSWORD@HOST/) logs in by basic authentication. Neither is returned.
          - The values of query parameters whose names speak of secrets (token, key, password, ...) are not returned. Others are, so that a
            secret belongs into O(endpoints[].headers).
        type: str
        required: true
      service:
        description: The compose service (or the name of the container) behind it. Its container is described where the endpoint fails.
        type: str
      method:
        description: The method of the request.
        type: str
        choices: [GET, HEAD, POST]
        default: GET
      headers:
        description:
          - Headers of the request. Their values are never returned. A redirect to another server does not take them along.
        type: dict
      body:
        description: The body of the request. A mapping or a list is sent as JSON, everything else as text.
        type: raw
      status:
        description: The statuses that are right. A redirect that is listed here is not followed.
        type: list
        elements: int
        default: [200]
      body_contains:
        description: A text that a right answer contains.
        type: str
      body_json:
        description:
          - 'What a right answer holds, as C({PATH: VALUE}). A path leads through mappings and lists, as in C(checks.database.healthy)
            or C(tracks.0.title).'
        type: dict
      requests:
        description: How often it is asked, one time after the other. Without it, O(requests).
        type: int
      timeout:
        description: Seconds for each request, its redirects included. Without it, O(timeout).
        type: float
      max_body_bytes:
        description: Bytes of an answer that are read at most. Without it, O(max_body_bytes).
        type: int
      max_redirects:
        description: How many redirects are followed. With V(0), a redirect is an answer as any other.
        type: int
        default: 5
      address_family:
        description: Which addresses of the host are tried. They are tried in the order of the resolver until one takes the connection.
        type: str
        choices: [any, ipv4, ipv6]
        default: any
      validate_certs:
        description: Whether a certificate that cannot be verified is an error. If V(false), C(tls) tells what is wrong with it all the same.
        type: bool
        default: true
      ca_cert:
        description: File with the certificates of the authorities to trust. Without it, those of the system.
        type: path
      client_cert:
        description: File with the certificate to show to the server.
        type: path
      client_key:
        description: File with its key, where it is not in the same file.
        type: path
  requests:
    description: How often each endpoint is asked, one time after the other. An endpoint that does not answer is asked once.
    type: int
    default: 1
  timeout:
    description: Seconds for each request, its redirects included.
    type: float
    default: 5.0
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 15.0
  max_body_bytes:
    description: Bytes of an answer that are read at most. A longer one is an error.
    type: int
    default: 1048576
  show_bodies:
    description:
      - Whether the beginning of a wrong answer, and the values found in it, are returned after redaction.
      - Redaction resolves the escapes of JSON, URLs and HTML, hides values whose name speaks of a secret, everything that was sent, Base64 and
        what looks random. It cannot know a secret that is an ordinary word without such a name. Set V(false) where answers may hold any.
    type: bool
    default: true
  project:
    description: The compose project of the services, where the machine runs several.
    type: str
  docker_root:
    description:
      - The data directory of the Docker engine, whose files describe the containers. Reading them takes root.
      - Without it, what C(/etc/docker/daemon.json) says, else C(/var/lib/docker).
    type: path
"""

EXAMPLES = r"""
- name: Ask three services at once
  tracktion.ops.endpoint_info:
    endpoints:
      - {name: analysis_service, url: "http://localhost:8001/health"}
      - {name: tracklist_service, url: "http://localhost:8002/health", body_json: {status: healthy}}
      - {name: file_watcher, url: "http://localhost:8003/health"}
  register: health

- name: Fail where one is not well, naming all that are not
  ansible.builtin.assert:
    that: health.totals.ok == health.totals.endpoints
    fail_msg: "{{ health.endpoints | rejectattr('ok') | map(attribute='name') | join(', ') }}"

- name: How long does matching take, over 20 requests
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
reachable:
  description: Always true. Whether an endpoint is reachable is in RV(endpoints[].answered).
  returned: always
  type: bool
  sample: true
error:
  description: Always null. What is wrong with an endpoint is in RV(endpoints[].error).
  returned: always
  type: dict
  sample: null
unknown:
  description: The parts that could not be measured, as C(part), C(reason) and, where there is one, C(hint).
  returned: always
  type: list
  elements: dict
  sample: []
seconds:
  description: How long it all took.
  returned: always
  type: float
  sample: 0.2113
totals:
  description: How many endpoints there are, and how many gave the right answer.
  returned: always
  type: dict
  sample: {endpoints: 3, ok: 2}
endpoints:
  description: The endpoints, in the order of O(endpoints). All but RV(endpoints[].latency) is about the first request.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      returned: always
      type: str
      sample: tracklist_service
    url:
      description: Its address, without user and password.
      returned: always
      type: str
      sample: http://localhost:8002/health
    service:
      description: As given.
      returned: always
      type: str
      sample: tracklist_service
    method:
      description: As given.
      returned: always
      type: str
      sample: GET
    ok:
      description: Whether the answer is the expected one. Null where the deadline was over before it was asked.
      returned: always
      type: bool
      sample: false
    answered:
      description: Whether a whole answer came, whatever it says.
      returned: always
      type: bool
      sample: true
    error:
      description:
        - Why no whole answer came, as C(kind), C(message) and C(hint), else null. C(kind) is one of the following.
        - V(dns), the name is not resolved. V(refused), nothing listens. V(timeout), the connection is not taken in time.
          V(unreachable), there is no way there.
        - V(no_answer), the connection is taken and nothing comes in time. V(unfinished), the answer begins and does not end in time.
          V(closed) and V(reset), the connection ends before the answer does. V(too_large), the answer is longer than O(max_body_bytes).
        - V(not_http), something else than HTTP answers. V(not_tls) and V(speaks_tls), the scheme of the URL is the wrong one.
          V(tls), the handshake fails. V(certificate), the certificate is refused.
        - V(redirect_loop), V(too_many_redirects), V(bad_redirect), the redirects lead nowhere. V(broken), anything else.
      returned: always
      type: dict
      sample: null
    phase:
      description: The last phase that was reached, one of V(dns), V(connect), V(tls), V(first_byte), V(body).
      returned: always
      type: str
      sample: body
    address:
      description: The address that took the connection, or was tried last.
      returned: always
      type: str
      sample: "127.0.0.1"
    port:
      description: The port that was asked first.
      returned: always
      type: int
      sample: 8002
    status:
      description: The HTTP status of the answer, at the end of its redirects.
      returned: always
      type: int
      sample: 503
    expected_status:
      description: The statuses that would be right.
      returned: always
      type: list
      elements: int
      sample: [200]
    status_ok:
      description: Whether the status is one of these.
      returned: always
      type: bool
      sample: false
    body:
      description:
        - About the body of the answer. C(ok) is whether O(endpoints[].body_contains) and O(endpoints[].body_json) hold, C(contains) whether the
          former does.
        - C(mismatches) are the paths that hold something else, of C(mismatch_count) in all. C(found) is null where nothing, or null, is there.
        - C(excerpt) is the beginning of a wrong answer, without what looks like a secret. It is null where the answer is right, or O(show_bodies)
          is V(false). Of an answer that is not UTF-8, compressed for one, it says only that.
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
        - Seconds spent in each phase, summed up over redirects. C(first_byte) is from sending the request to the first byte of the answer.
          A phase that was not reached is null, as is C(tls) without TLS. C(total) is all of it.
      returned: always
      type: dict
      sample: {dns: 0.0009, connect: 0.0001, tls: null, first_byte: 0.0121, body: 0.0002, total: 0.0134}
    redirects:
      description: The redirects that were met, and where to. Values of query parameters are left out.
      returned: always
      type: dict
      sample: {count: 0, urls: []}
    tls:
      description:
        - What the certificate says, null without TLS. C(problem) is null or V(expired), V(not_yet_valid), V(wrong_name), V(self_signed),
          V(untrusted), V(revoked), and C(message) says it in OpenSSL's words. C(begins) and C(expires) are in seconds since the epoch.
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
        - Seconds that right answers took, over the requests that were made of those that were C(wanted). Fewer are made where the time is over.
        - Percentiles are by nearest rank. C(p95_seconds) is the time that one of the answers took, and that 95 of 100 did not exceed; of fewer
          than 20 answers it is the slowest.
        - C(failed) counts the wrong or missing answers, C(failures) says what they were.
      returned: always
      type: dict
      sample: {wanted: 20, made: 20, failed: 0, failures: [], p50_seconds: 0.0121, p95_seconds: 0.0313, max_seconds: 0.0402}
    container:
      description: The container of O(endpoints[].service) where the endpoint fails, else null. Null where no Docker engine is on the machine.
      returned: always
      type: dict
      sample: {name: tracktion-tracklist_service-1, project: tracktion, state: running, exit_code: 0, restarts: 0, started: 1790000000.0,
        uptime_seconds: 86400.0}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._http._http_redact import secrets_in
from ansible_collections.tracktion.ops.plugins.module_utils._measures._endpoint_info import ARGUMENT_SPEC, measure


def main():
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    # The URLs come back among the arguments of the module.
    for endpoint in module.params["endpoints"]:
        module.no_log_values.update(secrets_in(endpoint["url"]))
    exit_module(module, partial(measure, module.params))


if __name__ == "__main__":
    main()
