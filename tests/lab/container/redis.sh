#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Redis in the foreground; the arguments are its own (--name value ...).
# They become a configuration file, so that CONFIG REWRITE works as it does on a real server and a restart
# keeps what it wrote. With REDIS_CONFIG_FILE=no they stay on the command line, and there is nothing to rewrite.
set -eu
install -d -o redis -g redis -m 750 /var/lib/redis /etc/redis
if [ -d /tls ]; then
    install -d -o redis -g redis -m 700 /var/lib/redis-tls
    install -o redis -g redis -m 600 /tls/*.pem /var/lib/redis-tls
    set -- --port 0 --tls-port 6379 --tls-auth-clients optional --tls-ca-cert-file /var/lib/redis-tls/ca.pem \
        --tls-cert-file /var/lib/redis-tls/server.pem --tls-key-file /var/lib/redis-tls/server-key.pem "$@"
fi
set -- --dir /var/lib/redis --bind '*' --protected-mode no "$@"
if [ "${REDIS_CONFIG_FILE:-yes}" = yes ]; then
    if [ ! -e /etc/redis/lab.conf ]; then
        while [ $# -gt 0 ]; do
            line="${1#--}"
            shift
            while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
                line="$line ${1:-\"\"}"
                shift
            done
            echo "$line"
        done >/etc/redis/lab.conf
        chown redis:redis /etc/redis/lab.conf
    fi
    set -- /etc/redis/lab.conf
fi
exec setpriv --reuid=redis --regid=redis --init-groups -- redis-server "$@"
