# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_levels

LOOK_CLOSER = re.compile("|".join(_log_levels.LOOK_CLOSER))

# As these programs really write.
LINES = [
    # Python's logging, uvicorn
    ("error", "2026-11-25 08:24:16,614 ERROR analysis_service lost the broker: StreamLostError"),
    ("info", "2026-11-25 08:24:16,614 INFO analysis_service job done, last ERROR was none"),
    ("warning", "WARNING:root:slow"),
    ("error", "ERROR:    Exception in ASGI application"),
    ("error", 'INFO:     127.0.0.1:3 - "GET /health HTTP/1.1" 503 Service Unavailable'),
    ("info", 'INFO:     127.0.0.1:3 - "GET /error HTTP/1.1" 200 OK'),
    ("error", "Traceback (most recent call last):"),
    ("error", "ValueError: invalid literal"),
    ("error", "sqlite3.Error: broken"),
    ("warning", "/app/a.py:12: DeprecationWarning: asyncio.get_event_loop()"),
    # PostgreSQL
    ("info", "2026-11-25 08:24:07.693 UTC [29] LOG:  database system is ready to accept connections"),
    ("info", '2026-11-25 08:24:08.114 UTC [29] LOG:  background worker "x" (PID 35) exited with exit code 1'),
    ("error", '2026-11-25 08:24:08.114 UTC [29] a@b ERROR:  relation "errors" does not exist at character 15'),
    ("critical", '2026-11-25 08:24:08.114 UTC [29] a@b FATAL:  password authentication failed for user "a"'),
    ("context", "2026-11-25 08:24:08.114 UTC [29] a@b STATEMENT:  select error from failures"),
    ("context", "2026-11-25 08:24:08.114 UTC [29] a@b DETAIL:  Key (id)=(1) already exists, error."),
    ("warning", "2026-11-25 08:24:08.114 UTC [29] a@b WARNING:  there is no transaction in progress"),
    # RabbitMQ
    ("info", "2026-11-25 08:24:08.114022+00:00 [info] <0.9.0> error logger started"),
    ("error", "2026-11-25 08:24:08.114022+00:00 [error] <0.9.0> Error on AMQP connection <0.9.0>"),
    ("warning", "2026-11-25 08:24:08.114022+00:00 [warning] <0.9.0> memory resource limit alarm set on node rabbit@a."),
    # Redis
    ("info", "7:C 25 Nov 2026 08:24:07.310 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo"),
    ("info", "7:M 25 Nov 2026 08:24:07.310 * RDB: 0 error bytes"),
    ("warning", "7:M 25 Nov 2026 08:24:07.310 # WARNING Memory overcommit must be enabled!"),
    ("error", "7:M 25 Nov 2026 08:24:07.310 # Can't save in background: fork: Cannot allocate memory"),
    # nginx
    ("error", "2026/11/25 08:24:07 [error] 7#7: *1 connect() failed (111: Connection refused)"),
    ("critical", "2026/11/25 08:24:07 [emerg] 7#7: bind() to 0.0.0.0:80 failed"),
    ("error", '10.0.0.1 - - [25/Nov/2026:08:24:07 +0000] "GET / HTTP/1.1" 502 157'),
    ("info", '10.0.0.1 - - [25/Nov/2026:08:24:07 +0000] "GET /static/error.css HTTP/1.1" 200 157'),
    # JSON and logfmt
    ("error", '{"level":"error","msg":"boom"}'),
    ("error", '{"level":50,"msg":"boom"}'),
    ("warning", '{"severity":"WARNING","message":"boom"}'),
    ("critical", '{"levelname": "CRITICAL", "message": "boom"}'),
    ("info", '{"level":"info","msg":"error","errors":7}'),
    ("error", 'ts=1 level=error msg="x y"'),
    ("info", 'ts=1 level=info msg="error"'),
    # Words only
    ("error", "5 errors found"),
    ("error", "open /music: permission denied"),
    ("error", "error: 05"),
    ("error", "app.error: cannot open"),
    ("critical", "panic: runtime error: index out of range"),
    ("info", "finished with 0 errors"),
    ("info", "no error"),
    ("info", "without any errors"),
    ("info", "error_count=0 done"),
    ("info", "failures=0 errors=0"),
    ("info", "error: none"),
    ("info", "errors: []"),
    ("info", "Error rate: 0.00%"),
    ("info", "loading error_handler"),
    ("info", "opened /var/log/error.log"),
    ("info", "failover ok"),
    ("info", "a line about nothing"),
]


@pytest.mark.parametrize(("level", "line"), LINES)
def test_the_level_of_a_line(level, line):
    assert _log_levels.read(line)[0] == level


@pytest.mark.parametrize("line", [line for level, line in LINES if level in _log_levels.COUNTED])
def test_what_counts_is_looked_at_closely(line):
    """As the engine writes it, too."""
    assert LOOK_CLOSER.search(line.lower())
    assert LOOK_CLOSER.search(json.dumps({"log": line}).lower())


def test_a_structured_line_gives_its_message_and_its_traceback():
    line = {"level": "error", "message": "no", "exc_info": "Traceback (most recent call last):\n  File\nKeyError: 1"}
    assert _log_levels.read(json.dumps(line)) == ("error", "no\n" + line["exc_info"])
    assert _log_levels.read('level=warn msg="a \\"b\\" c" x=1') == ("warning", 'a \\"b\\" c')


@pytest.mark.parametrize(
    "line", ['{"level": null}', '{"level": {}, "a": 1}', "{}", "{nonsense}", '{"level": []}', "[" * 9000]
)
def test_odd_lines_are_no_errors(line):
    assert _log_levels.read(line)[0] == "info"
