#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# PostgreSQL in the foreground; the arguments are the server's own (-c name=value).
# At the first start a cluster is made, with the superuser's password from POSTGRES_PASSWORD, and the SQL
# file INIT_SQL, if there is one, is run in it before anybody can connect from outside.
set -eu
data=/var/lib/postgresql/data
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }

install -d -o postgres -g postgres -m 2775 /run/postgresql
if [ -d /tls ]; then
    # The server insists on a key that no other user can read.
    install -d -o postgres -g postgres -m 700 /var/lib/postgresql/tls
    install -o postgres -g postgres -m 600 /tls/*.pem /var/lib/postgresql/tls
    set -- -c ssl=on -c ssl_ca_file=/var/lib/postgresql/tls/ca.pem \
        -c ssl_cert_file=/var/lib/postgresql/tls/server.pem -c ssl_key_file=/var/lib/postgresql/tls/server-key.pem "$@"
fi
if [ ! -s $data/complete ]; then
    rm -rf $data
    install -d -o postgres -g postgres -m 700 $data
    printf '%s' "$POSTGRES_PASSWORD" >/run/postgresql/password
    as_postgres initdb -D $data --encoding=UTF8 --auth-local=trust --auth-host=scram-sha-256 --no-sync \
        --pwfile=/run/postgresql/password >/dev/null
    rm /run/postgresql/password
    echo 'host all all all scram-sha-256' >>$data/pg_hba.conf
    echo 'host replication all all scram-sha-256' >>$data/pg_hba.conf
    if [ -n "${INIT_SQL:-}" ]; then
        as_postgres pg_ctl -D $data -w -s start -o "-c listen_addresses='' -c fsync=off $*"
        as_postgres psql -v ON_ERROR_STOP=1 -q -X -f "$INIT_SQL"
        as_postgres pg_ctl -D $data -w -s -m fast stop
    fi
    echo yes >$data/complete
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups -- \
    postgres -D $data -c listen_addresses='*' "$@"
