# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_signatures
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_known import Messages
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_tally import (
    CURRENT,
    MOST_SIGNATURES,
    OTHERS,
    PREVIOUS,
    Engine,
    Stamped,
    Tally,
)

CHAINED = """\
2026-11-25 08:24:16,614 ERROR svc request 7 failed
Traceback (most recent call last):
  File "/a/b.py", line 3, in connect
    raise OperationalError("no")
psycopg2.OperationalError: connection to server at "10.0.0.7" failed: FATAL:  sorry, too many clients already

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/a/c.py", line 9, in handle
    raise RuntimeError("no database") from error
RuntimeError: no database for request 7
2026-11-25 08:24:17,000 INFO svc next
"""
JAVA = """\
2026-11-25 08:24:16,614 ERROR Exception in thread "main" java.lang.IllegalStateException: no
\tat a.B.c(B.java:12)
\t... 3 more
Caused by: java.io.IOException: disk
\tat a.D.e(D.java:7)
"""

# Events of many lines: level, signature, and the lines as programs write them.
EVENTS = {
    "python plain": (
        "error",
        "ValueError: bad",
        """\
Traceback (most recent call last):
  File "/a.py", line 3, in <module>
    main()
    ^^^^^^
  File "/a.py", line 2, in main
    raise ValueError("bad\\nfailed second line")
ValueError: bad
failed second line
""",
    ),
    "python group": (
        "error",
        "ExceptionGroup: unhandled errors in a TaskGroup (<n> sub-exceptions)",
        """\
  + Exception Group Traceback (most recent call last):
  |   File "/a.py", line 3, in <module>
  | ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/a.py", line 9, in f
    | ValueError: one
    +---------------- 2 ----------------
    | Traceback (most recent call last):
    |   File "/a.py", line 9, in f
    | TypeError: two
    +------------------------------------
2026-11-25 08:24:16,614 INFO next
""",
    ),
    "java": (
        "error",
        "o.s.Boot : Application run failed",
        """\
2026-11-25 08:24:16.614 ERROR 1 --- [main] o.s.Boot : Application run failed

org.springframework.beans.factory.BeanCreationException: Error creating bean with name 'x'
\tat a.B.c(B.java:12) ~[x.jar:1]
\t... 30 common frames omitted
Caused by: org.postgresql.util.PSQLException: FATAL: password authentication failed
\tat a.D.e(D.java:7)
\tSuppressed: java.io.IOException: error
\t\tat a.b
2026-11-25 08:24:17.614  INFO 1 --- [main] next
""",
    ),
    "go panic": (
        "critical",
        "panic: runtime error: invalid memory address or nil pointer dereference",
        """\
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48f5a6]

goroutine 1 [running]:
main.fail(0x0, {0xc000, 0x1})
\t/app/main.go:12 +0x66
main.main()
\t/app/main.go:8 +0x1d
exit status 2
""",
    ),
    "go panic recovered": (
        "critical",
        "http: panic serving <ip>: boom error",
        """\
2026/11/25 08:24:16 http: panic serving 10.0.0.1:5: boom error
goroutine 19 [running]:
net/http.(*conn).serve.func1()
\t/usr/local/go/src/net/http/server.go:1850 +0xbf
panic({0x6a5b20, 0x77e3f0})
\t/usr/local/go/src/runtime/panic.go:890 +0x262
main.failed.func1({0x77, 0x1}, 0x3)
\t/app/main.go:12 +0x66
created by net/http.(*Server).Serve
\t/usr/local/go/src/net/http/server.go:3089 +0x5ed
2026/11/25 08:24:17 next
""",
    ),
    "rust": (
        "critical",
        "thread 'main' panicked at src/main.rs:<n>:<n>:",
        """\
thread 'main' panicked at src/main.rs:2:5:
called `Result::unwrap()` on an `Err` value: Error { kind: NotFound }
stack backtrace:
   0: rust_begin_unwind
             at /rustc/x/library/std/src/panicking.rs:597:5
   1: core::panicking::panic_fmt
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
""",
    ),
    "pg": (
        "error",
        'a@b ERROR: duplicate key value violates unique constraint "tracks_pkey"',
        """\
2026-11-25 08:24:08.114 UTC [29] a@b ERROR:  duplicate key value violates unique constraint "tracks_pkey"
2026-11-25 08:24:08.114 UTC [29] a@b DETAIL:  Key (name)=(fatal error) already exists.
2026-11-25 08:24:08.114 UTC [29] a@b STATEMENT:  INSERT INTO tracks
\tVALUES ('fatal error',
\t'x')
2026-11-25 08:24:08.115 UTC [29] a@b LOG:  fine
""",
    ),
    "pg de": (
        "error",
        "CET [<n>] a@b FEHLER: doppelter Schlüsselwert verletzt Unique-Constraint »tracks_pkey«",
        """\
2026-11-25 08:24:08.114 CET [29] a@b FEHLER:  doppelter Schlüsselwert verletzt Unique-Constraint »tracks_pkey«
2026-11-25 08:24:08.114 CET [29] a@b DETAIL:  Schlüssel »(name)=(fatal error)« existiert bereits.
2026-11-25 08:24:08.114 CET [29] a@b ANWEISUNG:  INSERT INTO tracks error
2026-11-25 08:24:08.115 CET [29] a@b LOG:  fine
""",
    ),
    "rabbit": (
        "error",
        "Error on AMQP connection <pid> (<ip>), channel <n>: operation basic.publish caused a channel "
        "exception not_found",
        """\
2026-11-25 08:24:08.114022+00:00 [error] <0.9.0> Error on AMQP connection <0.9.0> (10.0.0.1:5), channel 1:
2026-11-25 08:24:08.114022+00:00 [error] <0.9.0>  operation basic.publish caused a channel exception not_found
2026-11-25 08:24:08.114022+00:00 [error] <0.9.0> \n\
2026-11-25 08:24:09.114022+00:00 [info] <0.9.0> closing
""",
    ),
    "rabbit 4, in colours": (
        "error",
        "Error on AMQP connection <pid> (<ip> -> <ip>, state: starting): PLAIN login refused: user 'tracktion' "
        "- invalid credentials",
        """\
\x1b[38;5;160m2026-11-29 06:16:16.688535+00:00 [error] <0.702.0> Error on AMQP connection <0.702.0> (172.20.0.1:34060 -> 172.20.0.2:5672, state: starting):\x1b[0m
\x1b[38;5;160m2026-11-29 06:16:16.688535+00:00 [error] <0.702.0> PLAIN login refused: user 'tracktion' - invalid credentials\x1b[0m
2026-11-29 06:16:16.689099+00:00 [info] <0.702.0> closing AMQP connection <0.702.0> (172.20.0.1:34060 -> 172.20.0.2:5672)
""",  # noqa: E501
    ),
    "rabbit 4, an alarm": (
        "warning",
        "memory resource limit alarm set on node rabbit@localhost.",
        """\
\x1b[38;5;214m2026-11-29 06:16:37.552197+00:00 [warning] <0.281.0> memory resource limit alarm set on node rabbit@localhost.\x1b[0m
\x1b[38;5;214m2026-11-29 06:16:37.552197+00:00 [warning] <0.281.0> \x1b[0m
\x1b[38;5;214m2026-11-29 06:16:37.552197+00:00 [warning] <0.281.0> **********************************************************\x1b[0m
\x1b[38;5;214m2026-11-29 06:16:37.552197+00:00 [warning] <0.281.0> *** Publishers will be blocked until this alarm clears ***\x1b[0m
""",  # noqa: E501
    ),
    "celery": (
        "error",
        "ValueError: x",
        """\
[2026-11-25 08:24:16,614: ERROR/ForkPoolWorker-1] Task x[7] raised unexpected: ValueError('x')
Traceback (most recent call last):
  File "/a.py", line 3, in <module>
ValueError: x
[2026-11-25 08:24:16,614: INFO/MainProcess] Task x error-free
""",
    ),
    "structlog rich": (
        "error",
        "ValueError: x",
        """\
2026-11-25 08:24:16 [error    ] request failed                 [app] path=/x
╭─────────────── Traceback (most recent call last) ───────────────╮
│ /a.py:3 in <module>  error                                        │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
│ ╭─ locals ─╮                                                      │
│ │ error  │                                                       │
╰──────────────────────────────────────────────────────────────────╯
ValueError: x
""",
    ),
}


@pytest.mark.parametrize(
    ("line", "example"),
    [
        (
            '{"time": "2026-11-29T06:24:34Z", "level": "ERROR", "message": "cannot decode", "path": "/music/a.mp3"}',
            "cannot decode (path=/music/a.mp3)",
        ),
        (
            '{"event": "cannot read", "level": "err", "file": "/etc/passwd", "error": "[Errno 13] Permission denied"}',
            "cannot read (file=/etc/passwd, error=[Errno 13] Permission denied)",
        ),
        ('{"msg": "cannot decode /a.mp3", "level": 50, "path": "/a.mp3", "password": "x"}', "cannot decode /a.mp3"),
        # The source file of Python's logging is none.
        ('{"message": "failed", "level": "ERROR", "filename": "a.py", "lineno": 3}', "failed"),
        ("2026-11-29 06:24:34,123 ERROR cannot decode /music/a.mp3 in 3 s", "cannot decode /music/a.mp3 in 3 s"),
        ("1795934266.877 ERROR cannot decode /music/a.mp3", "cannot decode /music/a.mp3"),
    ],
)
def test_an_example_keeps_paths_and_numbers(line, example):
    (group,) = list(tally(engine(line)).groups.values())
    assert group["example"] == example


def test_a_file_that_cannot_be_compiled_is_named():
    lines = ('  File "/app/main.py", line 3', "    def f(:", "          ^", "SyntaxError: invalid syntax")
    (group,) = list(tally(engine(*lines)).groups.values())
    assert group["sample"] == 'SyntaxError: invalid syntax File "/app/main.py", line 3'


def engine(*texts, stream="stdout"):
    entries = [
        {"log": text + "\n", "stream": stream, "time": "2026-11-25T08:24:%02d.000000001Z" % number}
        for number, text in enumerate(texts)
    ]
    return b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries)


def tally(block, known=(), **options):
    counted = Tally(Engine, Messages(known), **options)
    counted.feed(block, CURRENT)
    return counted


@pytest.mark.parametrize(
    ("message", "signature"),
    [
        ("2026-11-25 08:24:16,614 ERROR svc lost 10.0.0.1:5672 after 3.5 s", "svc lost <ip> after <n> s"),
        ("cannot open /music/a b.mp3", "cannot open <path> b.mp<n>"),
        ("request 123e4567-e89b-12d3-a456-426614174000 failed", "request <uuid> failed"),
        ("at 0x7f3580e4fed0 in 3f2a9b1c4d", "at <hex> in <hex>"),
        ("password=abc refused for bob@example.org", "password=*** refused for ***@***"),
        ("error at http://host:80/a/1?x=2", "error at http://host:<n>/a/<n>?x=<n>"),
        ("12345", "<n>"),
        ("2026-11-25 09:07:51.112904+00:00 [error] <0.216.0> closing <0.217.0>", "closing <pid>"),
    ],
)
def test_variable_parts_are_masked(message, signature):
    assert _log_signatures.signature(message) == signature


def test_chained_traceback_is_one_event_with_its_last_exception():
    counted = tally(engine(*CHAINED.splitlines()), ["too many clients", "never"])
    assert counted.levels[CURRENT] == {"warning": 0, "error": 1, "critical": 0}
    (group,) = list(counted.groups.values())
    assert group["signature"] == "RuntimeError: no database for request <n>"
    assert "request 7 failed" in group["sample"]
    assert 'File "/a/c.py", line 9' in group["sample"]
    # The sample of a known message is the line that matches.
    assert counted.known[0]["counts"] == [1, 0]
    assert counted.known[0]["sample"].endswith("sorry, too many clients already")


def test_java_traceback_is_one_event():
    counted = tally(engine(*JAVA.splitlines()))
    (group,) = list(counted.groups.values())
    assert group["signature"] == 'Exception in thread "main" java.lang.IllegalStateException: no'


@pytest.mark.parametrize(("level", "signature", "text"), EVENTS.values(), ids=list(EVENTS))
def test_many_lines_are_one_event(level, signature, text):
    counted = tally(engine(*text.splitlines()))
    assert [(group["level"], group["signature"]) for group in counted.groups.values()] == [(level, signature)]
    assert counted.levels[CURRENT][level] == 1


def test_repeated_tracebacks_are_counted():
    counted = tally(engine(*CHAINED.splitlines()[1:5] * 30))
    assert counted.levels[CURRENT]["error"] == 30


def test_traceback_without_a_line_before():
    counted = tally(engine(*CHAINED.splitlines()[1:5]))
    (group,) = list(counted.groups.values())
    assert group["signature"].startswith("psycopg<n>.OperationalError: connection to server")


def test_traceback_in_a_json_field():
    line = {"level": "error", "message": "failed 7", "exc_info": "\n".join(CHAINED.splitlines()[1:5])}
    (group,) = list(tally(engine(json.dumps(line))).groups.values())
    assert group["signature"].startswith("psycopg<n>.OperationalError")


def test_consecutive_errors_are_counted_apart():
    counted = tally(engine("ERROR a", "ERROR a", "  more", "ERROR b"))
    assert counted.levels[CURRENT]["error"] == 3
    assert sorted(group["counts"][CURRENT] for group in counted.groups.values()) == [1, 2]


def test_a_known_message_is_searched_in_the_detail_of_postgresql_and_names_are_kept():
    text = """\
2026-11-29 20:12:43.060 UTC [1360] FATAL:  password authentication failed for user "%s"
2026-11-29 20:12:43.060 UTC [1360] DETAIL:  User "%s" has an expired password.
\tConnection matched pg_hba.conf line 99: "host all all all scram-sha-256"
2026-11-29 20:12:43.061 UTC [1361] ERROR:  other
2026-11-29 20:12:43.061 UTC [1361] STATEMENT:  select 'has an expired password'
"""
    known = ['user "(?P<role>[^"]*)" has an expired password|has an expired password', "password authentication failed"]
    found = tally(engine(*(text % ("a", "a") + text % ("b", "b")).splitlines()), known).known
    assert list(found) == [0]
    assert found[0]["counts"] == [2, 0]
    assert found[0]["names"] == {"role": {"a", "b"}}
    assert found[0]["sample"] == '2026-11-29 20:12:43.060 UTC [1360] DETAIL: User "a" has an expired password.'


def test_windows_are_counted_apart():
    counted = tally(engine("ERROR a 1", "fine", "ERROR a 2"), progress=re.compile(b"fine"))
    counted.feed(engine("ERROR a 3"), PREVIOUS)
    (group,) = list(counted.groups.values())
    assert group["counts"] == [2, 1]
    assert group["times"].last - group["times"].first == pytest.approx(2)
    assert (counted.lines, counted.completed) == ([3, 1], [1, 0])


def test_line_in_several_entries_is_one_event():
    entry = '{"log":"%s%s","stream":"stdout","time":"2026-11-25T08:24:14Z"}\n'
    block = (
        entry % ("ERROR " + "x" * 16000, "") + entry % ("an error " * 100, "") + entry % ("end error", "\\n")
    ).encode()
    counted = tally(block + engine("ERROR next"))
    assert counted.lines[CURRENT] == 2
    assert counted.levels[CURRENT]["error"] == 2


def test_level_beside_colours_and_invalid_bytes():
    counted = tally(engine("\x1b[31;1mERROR\x1b[0m \x00\x07 broken \x1b]0;title\x07 \ufffd x"))
    (group,) = list(counted.groups.values())
    assert group["level"] == "error"
    assert not re.search(r"[\x00-\x1f]", group["sample"])


def test_stderr_is_not_an_error():
    assert tally(engine("starting", stream="stderr")).levels[CURRENT]["error"] == 0


def test_signatures_beyond_the_limit_are_counted_together():
    names = [
        "".join(chr(97 + number // 26**place % 26) for place in range(4)) for number in range(MOST_SIGNATURES + 50)
    ]
    counted = tally(engine(*["ERROR kind %s" % name for name in names]))
    assert len(counted.groups) == MOST_SIGNATURES + 1
    assert counted.groups[("error", OTHERS)]["counts"][CURRENT] == 50


def test_last_line_without_an_end():
    counted = Tally(Stamped)
    counted.feed(b"1.0 ERROR a\n2.0 ERROR b", CURRENT)
    assert (counted.lines[CURRENT], counted.levels[CURRENT]["error"]) == (2, 2)


@pytest.mark.parametrize(
    "text", ["error ", "error-", "[error", "0 errors ", "/a/", "E", '{"', "\\", "  at ", "panic: ", "log level ", "<1>"]
)
def test_lines_of_1_mb_are_fast(text):
    line = b"1795595054.0 " + (text * (1 << 20))[: 1 << 20].encode()
    began = time.process_time()
    counted = Tally(Stamped)
    counted.feed(line + b"\n1795595055.0 ERROR next\n", CURRENT)
    assert time.process_time() - began < 1
    assert counted.levels[CURRENT]["error"] >= 1
