# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options and results of the modules that back up brokers. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  directory:
    description:
      - Directory of the backups. A backup is the directory C(<directory>/<kind>/<name>/<stamp>) with a manifest.
      - The directory and its parents must belong to root or to the user of the task and must not be writable by others.
    type: path
    default: /var/backups/tracktion
  docker_host:
    description: Address of the container engine for scratch servers. It must be one of the host of the task.
    type: str
    default: unix:///var/run/docker.sock
  progress:
    description: File that the progress is written to.
    type: path
"""

    # For modules that take a backup.
    KEEP = r"""
options:
  keep:
    description: Number of complete backups to keep. With V(0), their number has no limit. The newest and the newest proven one are never removed.
    type: int
    default: 7
  max_age_days:
    description: Age in days after which a backup is removed. V(0) is no limit.
    type: float
    default: 0.0
  encryption_recipients:
    description: Encrypt the files for these recipients of age (C(age1...)) or keys of gpg (fingerprints or mail addresses).
    type: list
    elements: str
    default: []
"""

    # For modules that load a backup.
    LOAD = r"""
options:
  stamp:
    description: The backup, by the name of its directory. Without it, the newest complete one.
    type: str
  image:
    description: Image of the scratch server. Without it, the image of the server's container, or the program of this host.
    type: str
  encryption_identity:
    description: File with the identity of age that decrypts the backup. gpg uses the keyring of the account.
    type: path
"""

    # For modules that import a backup of RabbitMQ apart from the live data.
    RABBITMQ_SCRATCH = r"""
options:
  container:
    description: Name of the broker's container, whose image the scratch broker runs. Without it, the one that serves O(login_port).
    type: str
  scratch:
    description:
      - Where the backup is imported to. V(container) is a scratch broker, a container of the broker's image without a network. V(server) are scratch
        vhosts of the broker itself, C(tracktion.ops-scratch-...), for a broker outside of containers.
      - V(auto) is V(container) with O(image) or O(container), or if the broker's container runs on the host, otherwise V(server).
      - V(server) imports what belongs to a vhost. Users, permissions, global parameters, and parameters of plugins such as shovels, which would
        begin to work, are read and counted only.
    type: str
    choices: [auto, container, server]
    default: auto
"""
