# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_levels

CANDIDATES = re.compile("|".join(_log_levels.CANDIDATES))

# Lines of these programs.
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
    # PostgreSQL in other languages
    ("error", "2026-11-25 08:24:08.114 CET [29] a@b FEHLER:  Relation »x« existiert nicht bei Zeichen 15"),
    ("error", "2026-11-25 08:24:08.114 CET [29] ERREUR:  la relation « x » existe"),
    ("warning", "2026-11-25 08:24:08.114 CET [29] WARNUNG:  keine Transaktion offen"),
    ("context", "2026-11-25 08:24:08.114 CET [29] a@b ANWEISUNG:  select error from x"),
    ("context", "2026-11-25 08:24:08.114 CET [29] DÉTAIL:  (name)=(fatal error)"),
    ("info", "2026-11-25 08:24:08.114 UTC [1] LOG:  statement: select * from errors"),
    # JSON and logfmt
    ("error", '{"event":"failed to open","level":"error","timestamp":"2026-11-25T08:24:16Z"}'),
    ("info", '{"event":"error handled","level":"info","timestamp":"2026-11-25T08:24:16Z"}'),
    ("critical", '{"level":60,"time":1531171074631,"msg":"boom"}'),
    ("info", '{"level":30,"time":1531171074631,"msg":"error free"}'),
    ("error", '{"level":40,"levelname":"ERROR","message":"Python"}'),
    ("error", '{"log":{"level":"error"},"message":"Elastic"}'),
    ("info", '{"log":{"level":"info"},"message":"the last error"}'),
    ("error", '{"Level":"Error","Message":"capital letters"}'),
    ("info", '2026-11-25T08:24:16Z {"level":"info","msg":"last error was x"}'),
    ("error", '2026-11-25T08:24:16Z {"level":"error","msg":"boom"}'),
    ("info", '{"status":"ok","error":"","msg":"no level"}'),
    ("critical", 'time="2026-11-25T08:24:16Z" level=fatal msg="x y"'),
    ("error", '{"level":"error","msg":"boom"}'),
    ("error", '{"level":50,"msg":"boom"}'),
    ("warning", '{"severity":"WARNING","message":"boom"}'),
    ("critical", '{"levelname": "CRITICAL", "message": "boom"}'),
    ("info", '{"level":"info","msg":"error","errors":7}'),
    ("error", 'ts=1 level=error msg="x y"'),
    ("info", 'ts=1 level=info msg="error"'),
    # syslog
    ("error", "<11>Nov 25 08:24:07 host app[12]: something"),
    ("warning", "<12>1 2026-11-25T08:24:07Z host app 12 - - something"),
    ("info", "<14>Nov 25 08:24:07 host app[12]: error"),
    ("error", "<3>something"),
    ("error", "Nov 25 08:24:07 host NetworkManager[12]: <error> [170000.1] something"),
    ("info", "Nov 25 08:24:07 host NetworkManager[12]: <info>  [170000.1] state error"),
    ("error", "Nov 25 08:24:07 host daemon.err app[12]: something"),
    ("info", "Nov 25 08:24:07 host daemon.info app[12]: error x"),
    # Others
    ("info", "[2026-11-25 08:24:16,614: INFO/MainProcess] the last error"),
    ("error", "[2026-11-25 08:24:16,614: ERROR/MainProcess] x"),
    ("info", "2026-11-25 08:24:16.614 | SUCCESS  | app:main:12 - the last error"),
    ("info", "2026-11-25 08:24:16 info: the last error"),
    ("error", "2026-11-25 08:24:16 error: x"),
    ("info", "[2026-11-25 08:24:16] app.INFO: the last error"),
    ("error", "2026-11-25 08:24:16 [error    ] request failed"),
    # Words only
    ("critical", "7:M 25 Nov 2026 08:24:07.310 # Fatal error loading the DB"),
    ("error", "7:M 25 Nov 2026 08:24:07.310 # Redis 7.0.15 crashed by signal: 11"),
    ("error", "npm ERR! code ELIFECYCLE"),
    ("error", "fail to open"),
    ("info", "no errors found"),
    ("info", "ErrorHandler initialised"),
    ("info", "failure detector started"),
    ("info", "listening for error events"),
    ("info", "Exception handling configured"),
    ("info", "Setting log level to ERROR"),
    ("info", "log_level=ERROR"),
    ("info", "critical section entered"),
    ("info", "denied=0"),
    ("info", "0 requests denied"),
    ("info", "completed /music/Panic! At The Disco/The Failed States - Error.mp3"),
    ("error", "/music/a/b.mp3: failed to decode"),
    ("error", "GET /tracks failed for song.mp3"),
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
def test_level_of_a_line(level, line):
    assert _log_levels.read(line)[0] == level


@pytest.mark.parametrize("line", [line for level, line in LINES if level in _log_levels.COUNTED])
def test_counted_lines_are_candidates(line):
    """Also in the engine's JSON."""
    assert CANDIDATES.search(line.lower())
    assert CANDIDATES.search(json.dumps({"log": line}).lower())


def test_structured_line_has_message_and_traceback():
    line = {"level": "error", "message": "no", "exc_info": "Traceback (most recent call last):\n  File\nKeyError: 1"}
    assert _log_levels.read(json.dumps(line)) == ("error", "no\n" + line["exc_info"])
    assert _log_levels.read('level=warn msg="a \\"b\\" c" x=1') == ("warning", 'a \\"b\\" c')


@pytest.mark.parametrize(
    "line", ['{"level": null}', '{"level": {}, "a": 1}', "{}", "{nonsense}", '{"level": []}', "[" * 9000]
)
def test_unusual_lines_are_not_errors(line):
    assert _log_levels.read(line)[0] == "info"
