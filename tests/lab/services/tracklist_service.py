# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An HTTP API over the library's database, and a consumer that catalogues new files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

import common
import psycopg2.extras
import psycopg2.pool
import redis
import topology

SERVICE = "tracklist_service"
POOL_SIZE = int(os.environ.get("POOL_SIZE", "8"))
log = common.start_log(SERVICE)
cache = redis.Redis(
    host=os.environ["REDIS_HOST"], password=os.environ["REDIS_PASSWORD"], socket_timeout=2, socket_connect_timeout=2
)
pool = psycopg2.pool.ThreadedConnectionPool(
    1, POOL_SIZE, os.environ["DATABASE_DSN"], connect_timeout=3, cursor_factory=psycopg2.extras.RealDictCursor
)


@contextlib.contextmanager
def cursor() -> Iterator[psycopg2.extras.RealDictCursor]:
    """A cursor in a transaction; its connection goes back to the pool, or is thrown away if it is broken."""
    connection = pool.getconn()
    try:
        with connection, connection.cursor() as opened:
            yield opened
    finally:
        pool.putconn(connection, close=bool(connection.closed))


def database_answers() -> bool:
    """Whether the database answers; a connection that died in the pool is replaced by the next."""
    with cursor() as opened:
        opened.execute("select 1")
        return True


def track(id: str) -> common.Answer:  # noqa: A002 (the query's own word)
    """One track, from the cache where it is known."""
    known = cache.get(f"track:{id}")
    if known:
        return 200, json.loads(known)
    with cursor() as opened:
        opened.execute(
            "select tracks.*, artists.name as artist from tracks join artists on artists.id = artist_id "
            "where tracks.id = %s",
            (id,),
        )
        row = opened.fetchone()
    if row is None:
        return 404, {"error": "no such track"}
    cache.set(f"track:{id}", json.dumps(row, default=str), ex=3600)
    return 200, row


def match(title: str, artist: str = "") -> common.Answer:
    """Tracks whose title and artist contain these words."""
    with cursor() as opened:
        opened.execute(
            "select tracks.id, title, artists.name as artist from tracks join artists on artists.id = artist_id "
            "where title ilike %s and artists.name ilike %s order by tracks.id limit 20",
            (f"%{title}%", f"%{artist}%"),
        )
        return 200, opened.fetchall()


def catalogue(message: dict) -> None:
    """Make a track of a new file, unless it is one."""
    with cursor() as opened:
        opened.execute(
            "insert into tracks (artist_id, title, path) values (1, %(path)s, %(path)s) on conflict (path) do nothing",
            {"path": message["path"]},
        )
    log.info("catalogued %s", message["path"])


def main() -> None:
    """Warm the cache, consume, and answer."""
    for number in range(1, 201):
        track(str(number))
    consumer = common.Consumer(SERVICE, topology.FILE_QUEUE, 20, catalogue)
    consumer.start()
    common.serve(
        SERVICE,
        8002,
        {"database": database_answers, "cache": cache.ping, "broker": lambda: consumer.connected},
        {"/track": track, "/match": match},
    )


if __name__ == "__main__":
    main()
