# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the modules of this collection reach a Docker engine. Private to this collection.

Those that need the SDK take all of it; those that need no more than the engine's socket take ``_docker.socket``.
"""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  docker_host:
    description: Where the engine listens. C(unix:///run/user/1000/docker.sock) or a socket of Podman, or C(tcp://host:2376) with O(tls).
    type: str
    default: unix:///var/run/docker.sock
  tls:
    description: Whether to speak TLS, for C(tcp://).
    type: bool
    default: false
  validate_certs:
    description: Whether the engine's certificate must be signed by a known authority and name its host.
    type: bool
    default: true
  ca_path:
    description: File with the certificates of the authorities to trust. Without it, those that the system trusts.
    type: path
  client_cert:
    description: File with the certificate to show to the engine, in PEM format.
    type: path
  client_key:
    description: File with the key of O(client_cert).
    type: path
  timeout:
    description: Seconds to wait for the connection, and for each answer.
    type: float
    default: 5.0
requirements:
  - docker >= 5.0 (the SDK, C(python3-docker))
notes:
  - Tested with Docker 20.10 and 26.1 and with Podman 4.3, the latter as root and without. The version of the API is 1.41, that of Docker 20.10, or the
    nearest to it that the engine takes.
  - The C(kind) of an engine that cannot be asked is V(no_engine) (there is no such socket), V(refused) (nobody listens there), V(permission),
    V(timeout), V(rejected) (it answers, and says no), V(too_old), V(tls), V(name_resolution) or V(failed).
"""
    SOCKET = r"""
options:
  docker_host:
    description: The socket of the engine, which has to be on this machine. C(unix:///run/user/1000/docker.sock), or one of Podman.
    type: str
    default: unix:///var/run/docker.sock
"""
