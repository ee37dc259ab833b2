# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the modules of this collection connect to a container engine. Private to this collection.

The options are those of ``_engine.SPEC``. ``SOCKET`` is for modules that also read files or processes of the host of the
engine.
"""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  docker_host:
    description:
      - The address of the engine, C(unix:///path) or C(tcp://host:port). C(unix:///run/user/1000/docker.sock) is a rootless engine,
        C(unix:///run/podman/podman.sock) is Podman.
    type: str
    default: unix:///var/run/docker.sock
  tls:
    description: Whether to use TLS for C(tcp://).
    type: bool
    default: false
  validate_certs:
    description: Whether the certificate of the engine must be signed by a trusted authority and contain its host name.
    type: bool
    default: true
  ca_path:
    description: File with the certificates of the trusted authorities. The default is those of the system.
    type: path
  client_cert:
    description: File with the client certificate, in PEM format.
    type: path
  client_key:
    description: File with the key of O(client_cert), in PEM format.
    type: path
  timeout:
    description: Timeout of the connection and of each answer, in seconds.
    type: float
    default: 5.0
notes:
  - Tested with Docker 20.10 and 26.1, and with Podman 4.3 as root and rootless. The version of the API is 1.41, that of Docker 20.10, or the nearest one
    that the engine supports.
  - The C(kind) of a failure is V(no_engine) (there is no such socket), V(refused), V(permission), V(timeout) (no connection), V(no_answer) (a
    connection and no answer), V(closed), V(name_resolution), V(no_route), V(tls), V(certificate), V(protocol), V(rejected) (the engine rejects the
    request), V(too_old) (the SDK does not support the engine), V(deadline) or V(failed).
"""
    SOCKET = r"""
options:
  docker_host:
    description:
      - The socket of the engine, which must be on this machine. C(unix:///run/user/1000/docker.sock) is a rootless engine,
        C(unix:///run/podman/podman.sock) is Podman.
    type: str
    default: unix:///var/run/docker.sock
"""
