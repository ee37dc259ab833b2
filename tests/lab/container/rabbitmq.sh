#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# RabbitMQ in the foreground, with its management API and one administrator, RABBITMQ_USER.
# The arguments are further lines of rabbitmq.conf (name=value).
set -eu
{
    echo "default_user = $RABBITMQ_USER"
    echo "default_pass = $RABBITMQ_PASSWORD"
    echo "loopback_users = none"
    echo "log.console = true"
    echo "log.file = false"
    if [ -d /tls ]; then
        install -d -o rabbitmq -g rabbitmq -m 700 /var/lib/rabbitmq/tls
        install -o rabbitmq -g rabbitmq -m 600 /tls/*.pem /var/lib/rabbitmq/tls
        echo "listeners.tcp = none"
        echo "listeners.ssl.default = 5671"
        echo "management.ssl.port = 15671"
        for section in ssl_options management.ssl; do
            echo "$section.cacertfile = /var/lib/rabbitmq/tls/ca.pem"
            echo "$section.certfile = /var/lib/rabbitmq/tls/server.pem"
            echo "$section.keyfile = /var/lib/rabbitmq/tls/server-key.pem"
        done
        echo "ssl_options.verify = verify_peer"
        echo "ssl_options.fail_if_no_peer_cert = false"
    fi
    for line in "$@"; do echo "$line"; done
} >/etc/rabbitmq/rabbitmq.conf
# A name that does not change with the container's, for the server and for every rabbitmqctl beside it.
echo 'NODENAME=rabbit@localhost' >/etc/rabbitmq/rabbitmq-env.conf
chown rabbitmq:rabbitmq /var/lib/rabbitmq
export HOME=/var/lib/rabbitmq
# An idle scheduler must not spin: the machine has better things to do.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none"
# Not Debian's own wrapper, which would keep what it says from the container's log.
cd /var/lib/rabbitmq
exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups -- /usr/lib/rabbitmq/bin/rabbitmq-server
