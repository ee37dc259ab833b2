# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the three services share: settings, log, connections, and an HTTP endpoint that answers for their health."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pika
from topology import AUDIO_QUEUE, DEAD_EXCHANGE, DEAD_QUEUE, FILE_EXCHANGE, FILE_QUEUE

Answer = tuple[int, object]
# Seconds that every answer is kept back, as long as the file is there: how the lab makes a service slow.
DELAY = Path("/tmp/lab-delay")


def start_log(service: str) -> logging.Logger:
    """One line per event, on standard output."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    return logging.getLogger(service)


def connect_broker(service: str) -> pika.BlockingConnection:
    """A connection to the message queue, under the service's own name and account."""
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            host=os.environ["RABBITMQ_HOST"],
            credentials=pika.PlainCredentials(os.environ["RABBITMQ_USER"], os.environ["RABBITMQ_PASSWORD"]),
            heartbeat=30,
            socket_timeout=5,
            blocked_connection_timeout=30,
            client_properties={"connection_name": service},
        )
    )


def declare_topology(channel) -> None:
    """Exchanges and queues; every service declares them all, so that the order of their starts does not matter."""
    channel.exchange_declare(FILE_EXCHANGE, "topic", durable=True)
    channel.exchange_declare(DEAD_EXCHANGE, "direct", durable=True)
    channel.queue_declare(DEAD_QUEUE, durable=True)
    channel.queue_bind(DEAD_QUEUE, DEAD_EXCHANGE, AUDIO_QUEUE)
    dead_letters = {"x-dead-letter-exchange": DEAD_EXCHANGE, "x-dead-letter-routing-key": AUDIO_QUEUE}
    channel.queue_declare(AUDIO_QUEUE, durable=True, arguments=dead_letters)
    channel.queue_bind(AUDIO_QUEUE, FILE_EXCHANGE, "file.*.audio")
    channel.queue_declare(FILE_QUEUE, durable=True)
    channel.queue_bind(FILE_QUEUE, FILE_EXCHANGE, "file.#")


class Consumer(threading.Thread):
    """Consumes one queue for ever, and comes back after the broker was away."""

    def __init__(self, service: str, queue: str, prefetch: int, handle: Callable[[dict], None]) -> None:
        super().__init__(name=f"consumer of {queue}", daemon=True)
        self.service, self.queue, self.prefetch, self.handle = service, queue, prefetch, handle
        self.connected = False
        self.log = logging.getLogger(service)

    def run(self) -> None:
        while True:
            try:
                with connect_broker(self.service) as connection:
                    channel = connection.channel()
                    declare_topology(channel)
                    channel.basic_qos(prefetch_count=self.prefetch)
                    channel.basic_consume(self.queue, self.on_message, consumer_tag=f"{self.service}.{self.queue}")
                    self.connected = True
                    self.log.info("consuming %s with prefetch %d", self.queue, self.prefetch)
                    channel.start_consuming()
            except (pika.exceptions.AMQPError, OSError) as error:
                self.log.error("lost the broker: %s", describe(error))
            self.connected = False
            time.sleep(1)

    def on_message(self, channel, delivery, properties, body: bytes) -> None:
        """Acknowledge what is done, dead-letter what can never be, and give back what may succeed later."""
        try:
            self.handle(json.loads(body))
        except (ValueError, KeyError) as error:
            self.log.error("rejected a message of %s: %s", self.queue, describe(error))
            channel.basic_reject(delivery.delivery_tag, requeue=False)
        except Exception as error:
            self.log.error("failed on a message of %s, will try again: %s", self.queue, describe(error))
            # Not at once: what failed will mostly fail again.
            channel.connection.sleep(1)
            channel.basic_reject(delivery.delivery_tag, requeue=True)
        else:
            channel.basic_ack(delivery.delivery_tag)


def describe(error: BaseException) -> str:
    """One line; some of the broker's errors have only a type."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]


def check(probe: Callable[[], object]) -> dict:
    """The outcome of one dependency's check. A probe fails by raising or by returning False."""
    started = time.monotonic()
    try:
        healthy, error = probe() is not False, None
    except Exception as failure:
        healthy, error = False, describe(failure)
    return {"healthy": healthy, "seconds": round(time.monotonic() - started, 4), "error": error}


def serve(
    service: str,
    port: int,
    dependencies: dict[str, Callable[[], object]],
    routes: dict[str, Callable[..., Answer]] | None = None,
) -> None:
    """Answer HTTP for ever: /health for the dependencies (503 if one is amiss), and the service's own routes."""

    def health() -> Answer:
        checks = {name: check(probe) for name, probe in dependencies.items()}
        healthy = all(outcome["healthy"] for outcome in checks.values())
        status = "healthy" if healthy else "unhealthy"
        return 200 if healthy else 503, {"service": service, "status": status, "checks": checks}

    pages = {"/health": health, **(routes or {})}
    log = logging.getLogger(service)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if DELAY.exists():
                time.sleep(float(DELAY.read_text(encoding="ascii")))
            address = urlsplit(self.path)
            page = pages.get(address.path)
            try:
                status, content = page(**dict(parse_qsl(address.query))) if page else (404, {"error": "no such page"})
            except TypeError as error:
                status, content = 400, {"error": str(error)}
            except Exception as error:
                log.error("%s failed: %s", address.path, describe(error))
                status, content = 500, {"error": type(error).__name__}
            body = json.dumps(content, default=str).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments) -> None:
            """Requests are not news."""

    log.info("listening on port %d", port)
    ThreadingHTTPServer(("", port), Handler).serve_forever()
