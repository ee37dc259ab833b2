# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Consumes requests for audio analysis, and stores a result for each in the database and in the cache.

A file that exists is decoded and analysed with Essentia. Many tests publish paths of files that do not exist: these get
a result that depends on the path only.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading

import common
import psycopg2
import redis
import topology

SERVICE = "analysis_service"
KEYS = ("C", "G", "D", "A", "E", "B", "F")
log = common.start_log(SERVICE)
cache = redis.Redis(
    host=os.environ["REDIS_HOST"], password=os.environ["REDIS_PASSWORD"], socket_timeout=2, socket_connect_timeout=2
)


class Database:
    """One connection, opened when it is needed and again when it was lost."""

    def __init__(self) -> None:
        self.connection = None
        self.lock = threading.Lock()

    def run(self, statement: str, values: dict | None = None) -> tuple | None:
        """Run one statement in a transaction of its own and return its first row."""
        with self.lock:
            if self.connection is None or self.connection.closed:
                self.connection = psycopg2.connect(os.environ["DATABASE_DSN"], connect_timeout=3)
            try:
                with self.connection, self.connection.cursor() as cursor:
                    cursor.execute(statement, values)
                    return cursor.fetchone()
            except psycopg2.OperationalError:
                self.connection.close()
                raise


class Detectors:
    """The detectors of the service, as other code of it would use them."""

    def detect_bpm(self, path: str) -> dict:
        """Return ``bpm`` and ``confidence``, which the service scales to about 1."""
        import essentia.standard

        bpm, _beats, confidence, _estimates, _intervals = essentia.standard.RhythmExtractor2013()(self.load(path))
        return {"bpm": float(bpm), "confidence": float(confidence) / 5}

    def detect_key(self, path: str) -> dict:
        """Return ``key``, ``scale`` and ``confidence``."""
        import essentia.standard

        key, scale, strength = essentia.standard.KeyExtractor()(self.load(path))
        return {"key": key, "scale": scale, "confidence": float(strength)}

    def load(self, path: str):
        """Return the samples at 44.1 kHz. The import takes seconds and 140 MB: only when a file is there."""
        import essentia
        import essentia.standard

        essentia.log.infoActive = False
        return essentia.standard.MonoLoader(filename=path)()


def analyse(path: str) -> dict:
    """Return the result of a file; of a path without a file, one that depends on the path only."""
    if os.path.isfile(path):
        detectors = Detectors()
        return {**detectors.detect_key(path), **detectors.detect_bpm(path)}
    digest = hashlib.sha256(path.encode()).digest()
    with tempfile.NamedTemporaryFile(prefix="tracktion_") as scratch:
        scratch.write(digest * 1000)
    return {"bpm": 80 + digest[0] % 100, "key": KEYS[digest[1] % 7], "confidence": 0.8 + digest[2] % 20 / 100}


def main() -> None:
    """Consume and answer for the dependencies."""
    consumer_database, health_database = Database(), Database()

    def handle(message: dict) -> None:
        path = message["path"]
        try:
            result = analyse(path)
        except RuntimeError as error:
            # What cannot be decoded will never be: there is no second attempt.
            log.error("analysis failed for %s: %s", path, common.describe(error))
            return
        consumer_database.run(
            """
            with track as (
                insert into tracks (artist_id, title, path) values (1, %(path)s, %(path)s)
                on conflict (path) do update set title = excluded.title returning id
            )
            insert into analysis_results (track_id, bpm, musical_key, confidence)
            select id, %(bpm)s, %(key)s, %(confidence)s from track returning id
            """,
            {"path": path, **result},
        )
        cache.set(f"analysis:{path}", json.dumps(result), ex=3600)
        log.info("completed %s", path)

    consumer = common.Consumer(SERVICE, topology.AUDIO_QUEUE, 10, handle)
    consumer.start()
    common.serve(
        SERVICE,
        8001,
        {
            "database": lambda: health_database.run("select 1"),
            "cache": cache.ping,
            "broker": lambda: consumer.connected,
        },
    )


if __name__ == "__main__":
    main()
