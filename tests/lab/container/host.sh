#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# A managed host: sshd in the foreground, open to root with the key mounted at /authorized_key.
set -eu
mkdir -p /run/sshd
install -d -m 700 /root/.ssh
install -m 600 /authorized_key /root/.ssh/authorized_keys
# A controller opens many connections at once, and there is no reverse DNS to ask.
exec /usr/sbin/sshd -D -e -o UseDNS=no -o MaxStartups=100 -o MaxSessions=50
