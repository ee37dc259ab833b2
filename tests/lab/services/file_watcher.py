# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watches a directory tree by inotify and publishes a message for every new file."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from pathlib import Path

import common
import pika
import topology
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

SERVICE = "file_watcher"
DIRECTORY = Path(os.environ["WATCH_DIRECTORY"])
EXTENSIONS = tuple(os.environ["WATCH_EXTENSIONS"].split(","))
log = common.start_log(SERVICE)


class NewFiles(FileSystemEventHandler):
    """Puts the paths of finished files into a queue."""

    def __init__(self, found: queue.Queue[str]) -> None:
        self.found = found

    def on_closed(self, event: FileSystemEvent) -> None:
        self.put(event.src_path)

    def on_moved(self, event: FileSystemEvent) -> None:
        if not event.is_directory:
            self.put(event.dest_path)

    def put(self, path: str) -> None:
        """Only what has one of the wanted extensions is worth a message."""
        if path.endswith(EXTENSIONS):
            self.found.put(path)


class Publisher(threading.Thread):
    """Publishes what was found, and comes back after the broker was away; what was found meanwhile waits."""

    def __init__(self, found: queue.Queue[str]) -> None:
        super().__init__(name="publisher", daemon=True)
        self.found = found
        self.connected = False
        self.unpublished: str | None = None

    def run(self) -> None:
        while True:
            try:
                with common.connect_broker(SERVICE) as connection:
                    channel = connection.channel()
                    common.declare_topology(channel)
                    channel.confirm_delivery()
                    self.connected = True
                    log.info("connected to the broker")
                    self.publish_for_ever(connection, channel)
            except (pika.exceptions.AMQPError, OSError) as error:
                log.error("lost the broker: %s", common.describe(error))
            self.connected = False
            time.sleep(1)

    def publish_for_ever(self, connection: pika.BlockingConnection, channel) -> None:
        """A file is forgotten only when the broker has confirmed it."""
        while True:
            if self.unpublished is None:
                try:
                    self.unpublished = self.found.get_nowait()
                except queue.Empty:
                    # Heartbeats must be answered while nothing happens.
                    connection.process_data_events(time_limit=0.2)
                    continue
            message = json.dumps({"path": self.unpublished, "event": "created", "at": time.time()})
            channel.basic_publish(
                topology.FILE_EXCHANGE, "file.created.audio", message.encode(), pika.BasicProperties(delivery_mode=2)
            )
            log.info("published %s", self.unpublished)
            self.unpublished = None


def main() -> None:
    """Watch, publish, and answer for both."""
    found: queue.Queue[str] = queue.Queue()
    publisher = Publisher(found)
    publisher.start()
    observer = Observer()
    observer.schedule(NewFiles(found), str(DIRECTORY), recursive=True)
    # With inotify's watches or instances used up this raises, and the container ends as a real watcher does.
    observer.start()
    log.info("watching %s for %s", DIRECTORY, " ".join(EXTENSIONS))
    common.serve(SERVICE, 8003, {"broker": lambda: publisher.connected, "inotify": observer.is_alive})


if __name__ == "__main__":
    main()
