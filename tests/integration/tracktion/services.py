# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The four services of Tracktion as they are published, each with what is unusual about it.

A health endpoint always answers "healthy", the watcher has none. The watcher logs in as guest, unless RABBITMQ_USER is
set. A message that cannot be processed ends the consumer of cataloging, and the service stays up.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pika
import psycopg2
import redis
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

FILES, REQUESTS = "file_events", "tracktion_exchange"
# Queue: exchange and routing key.
QUEUES = {
    "cataloging.file.events": (FILES, "file.#"),
    "analysis_queue": (REQUESTS, "file.analyze"),
    "analysis.lifecycle.events": (FILES, "file.#"),
    "tracklist_search_queue": (REQUESTS, "tracklist.search"),
}
EXTENSIONS = (".mp3", ".flac", ".wav")
# The colours of structlog.
GREY, GREEN, RED, PLAIN = "\033[2m", "\033[32m\033[1m", "\033[31m\033[1m", "\033[0m"


def log_json(level: str, event: str) -> None:
    """Log as analysis and tracklist do."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    print(json.dumps({"timestamp": now, "level": level, "event": event}), flush=True)


def log_plain(level: str, event: str) -> None:
    """Log as cataloging does."""
    print(time.strftime("%Y-%m-%d %H:%M:%S"), "-", level.upper(), "-", event, flush=True)


def log_coloured(level: str, event: str) -> None:
    """Log as the watcher does."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    colour = RED if level == "error" else GREEN
    print(f"{GREY}{now}{PLAIN} [{colour}{level}{PLAIN}] {event}", flush=True)


def connect(user: str, password: str, name: str) -> pika.BlockingConnection:
    """Return a connection to the broker."""
    login = pika.PlainCredentials(user, password)
    properties = {"connection_name": name}
    return pika.BlockingConnection(
        pika.ConnectionParameters("rabbitmq", credentials=login, client_properties=properties)
    )


def consume(service: str, log: Callable[[str, str], None], *queues: str) -> None:
    """Consume queues until a message cannot be processed."""
    connection = connect(os.environ["RABBITMQ_DEFAULT_USER"], os.environ["RABBITMQ_DEFAULT_PASS"], service)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=10)

    def process(channel, delivery, _properties, body: bytes) -> None:
        event = json.loads(body)
        log("info", "processed " + event["file_path"])
        channel.basic_ack(delivery.delivery_tag)

    for queue in queues:
        exchange, key = QUEUES[queue]
        channel.exchange_declare(exchange, "topic", durable=True)
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, exchange, key)
        channel.basic_consume(queue, process)
    log("info", "consuming " + ", ".join(queues))
    try:
        channel.start_consuming()
    except (ValueError, KeyError) as error:
        log("error", "consumer stopped: %s" % type(error).__name__)
        connection.close()


def start_consumer(service: str, log: Callable[[str, str], None], *queues: str) -> None:
    """Consume in a thread, whose end the service does not notice."""
    threading.Thread(target=consume, args=(service, log, *queues), daemon=True).start()


class Healthy(BaseHTTPRequestHandler):
    """Answers that all is well, whatever happens behind it."""

    def do_GET(self) -> None:
        body = b'{"status": "healthy"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        """Log nothing."""


def cataloging() -> None:
    """Catalogue new files, and serve HTTP."""
    database = psycopg2.connect(os.environ["DATABASE_DSN"])
    database.autocommit = True
    start_consumer("cataloging_service", log_plain, "cataloging.file.events")
    ThreadingHTTPServer(("", 8001), Healthy).serve_forever()


def analysis() -> None:
    """Analyse files. (Without the graph database, on which the real one depends.)"""
    redis.Redis("redis").set("analysis:progress:none", "{}", ex=3600)
    consume("analysis_service", log_json, "analysis_queue", "analysis.lifecycle.events")


def tracklist() -> None:
    """Search tracklists, and serve HTTP."""
    database = psycopg2.connect(os.environ["DATABASE_DSN"])
    database.autocommit = True
    start_consumer("tracklist_service", log_json, "tracklist_search_queue")
    ThreadingHTTPServer(("", 8002), Healthy).serve_forever()


class NewFiles(FileSystemEventHandler):
    """Publishes new files."""

    def __init__(self) -> None:
        self.channel = None

    def on_closed(self, event: FileSystemEvent) -> None:
        if self.channel and event.src_path.endswith(EXTENSIONS):
            body = json.dumps({"file_path": event.src_path}).encode()
            self.channel.connection.add_callback_threadsafe(
                lambda: self.channel.basic_publish(FILES, "file.created", body)
            )


def watcher() -> None:
    """Watch a directory, with a connection to the broker or without one."""
    handler, observer = NewFiles(), Observer()
    observer.schedule(handler, os.environ["DATA_DIR"], recursive=True)
    observer.start()
    user, password = os.environ.get("RABBITMQ_USER", "guest"), os.environ.get("RABBITMQ_PASS", "guest")
    while True:
        try:
            connection = connect(user, password, "file_watcher")
            handler.channel = connection.channel()
            handler.channel.exchange_declare(FILES, "topic", durable=True)
            log_coloured("info", "connected to the broker")
            while True:
                connection.process_data_events(time_limit=1)
        except (pika.exceptions.AMQPError, OSError) as error:
            log_coloured("error", "lost the broker: %s: %s" % (type(error).__name__, str(error).split("\n", 1)[0]))
        time.sleep(0.3)


if __name__ == "__main__":
    {"cataloging": cataloging, "analysis": analysis, "tracklist": tracklist, "watcher": watcher}[sys.argv[1]]()
