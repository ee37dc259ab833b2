# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of logs: containers beside the stack that log errors."""

from __future__ import annotations

import contextlib

from ..images import ensure_image
from ..servers import LABEL
from ..shell import attempt, run, wait_until
from . import fault
from .containers import HEALTHY, SOUND

# Secrets as services log them. The last part of each must not be in any report.
SECRETS = (
    "connecting to postgresql://tracktion_user:s3cr3t-one@postgres:5432/tracktion",
    "request failed with Authorization: Bearer s3cr3t-two-abcdef",
    'config {"user": "bob", "password": "s3cr3t three"}',
    "AWS_SECRET_ACCESS_KEY=s3cr3t-four was refused",
    "ALTER USER bob IDENTIFIED BY 's3cr3t-five'",
    "lost amqp://tracktion:s3cr3t-six@rabbitmq:5672/",
    "cannot connect: host=postgres dbname=tracktion password=s3cr3t-seven sslmode=require",
    "request with Cookie: session=s3cr3t-eight; theme=dark",
    "Authorization: Basic s3cr3t9OmFiYw== was denied",
    "no account of s3cr3t.bob@example.org",
    "cannot load -----BEGIN PRIVATE KEY-----s3cr3tTen-----END PRIVATE KEY-----",
)

TRACEBACKS = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
class OperationalError(Exception): pass
def connect():
    raise OperationalError('connection to server at "postgres" failed: FATAL:  sorry, too many clients already')
for number in range(40):
    try:
        try:
            connect()
        except OperationalError as error:
            raise RuntimeError("no database") from error
    except RuntimeError as error:
        logging.getLogger("matcher").exception("request %d failed", number)
"""

BURST = """
import logging, sys
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
for number in range(600):
    logging.info("completed /music/%d.mp3 with 0 errors", number)
    logging.error("cannot decode /music/%d.mp3: invalid frame at %d", number, number * 7)
"""

BAD_BYTES = r"""
import sys
out = sys.stdout.buffer
out.write(b"2026-11-25 08:24:16,614 ERROR blob " + b"x" * (1 << 20) + b"\n")
for number in range(30):
    out.write(b"\x1b[31m2026-11-25 08:24:16,614 ERROR\x1b[0m blob \xff\xfe\x00 broken ")
    out.write(b"\x1b]0;title\x07frame %d\n" % number)
out.write(b"no newline at the end")
"""


@contextlib.contextmanager
def talker(lab, service, script, *options):
    """Run a container of the stack's project that prints the output of a script and keeps running."""
    name = f"{lab.project}-{service}-1"
    remove = ("docker", "rm", "--force", "--volumes", name)
    attempt(*remove)
    labels = {
        LABEL: lab.project,
        "com.docker.compose.project": lab.project,
        "com.docker.compose.service": service,
        "com.docker.compose.project.working_dir": str(lab.directory),
    }
    words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    # Without other faults.
    words += [*SOUND, *HEALTHY]
    script += "\nimport pathlib, sys, time\nsys.stdout.flush()\npathlib.Path('/tmp/done').touch()\ntime.sleep(86400)\n"
    image = ensure_image(lab.state["suite"])
    run("docker", "run", "--detach", "--init", "--name", name, *words, *options, image, "python3", "-c", script)
    try:
        done = ("docker", "exec", name, "test", "-e", "/tmp/done")
        wait_until(lambda: attempt(*done).returncode == 0, f"the output of {name}", 30)
        yield name
    finally:
        attempt(*remove)


@fault(fires=["logs.error_burst"])
def errors_burst(lab):
    """A service logs hundreds of errors within a second, between lines with "0 errors"."""
    with talker(lab, "bursting_service", BURST):
        yield


@fault(fires=["logs.error_burst", "logs.known_signature"])
def traceback_flood(lab):
    """A service logs tracebacks of many lines, because the database has no connection left."""
    with talker(lab, "tracing_service", TRACEBACKS):
        yield


@fault(fires=["logs.error_burst"])
def secrets_in_log(lab):
    """A service logs passwords, tokens and keys."""
    lines = [f"ERROR {text}" for text in SECRETS for _time in range(6)]
    with talker(lab, "gossiping_service", f"print({chr(10).join(lines)!r})"):
        yield


@fault(fires=["logs.error_burst"])
def unreadable_bytes(lab):
    """A service logs a line of 1 MiB, colours and invalid bytes."""
    with talker(lab, "garbling_service", BAD_BYTES):
        yield


@fault(fires=["logs.unreadable"])
def log_driver_none(lab):
    """The log driver of a service keeps no log."""
    with talker(lab, "silent_service", "print('ERROR lost')", "--log-driver", "none"):
        yield
