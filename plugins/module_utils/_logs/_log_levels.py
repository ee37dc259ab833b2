# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parses the level and the message of log lines. Private to this collection.

The rules are data. The first that matches decides:

1. A JSON line has its level in a field (``JSON_LEVELS``), a logfmt line in ``level=``.
2. An HTTP answer with status 5xx is an error, whatever level the line has. So are failures that PostgreSQL logs with
   level LOG (``LOGGED_FAILURES``).
3. The format of a program (``FORMATS``): PostgreSQL, RabbitMQ, Redis, nginx, Python's logging, syslog.
4. Words (``WORDS``), after phrases are removed that only mention them (``HARMLESS``): "0 errors", "error_count=0",
   "no error", "error.log".
"""

from __future__ import annotations

import json
import re

DEBUG, INFO, WARNING, ERROR, CRITICAL = "debug", "info", "warning", "error", "critical"
# Belongs to the line before it, such as PostgreSQL's DETAIL and STATEMENT.
CONTEXT = "context"
COUNTED = (WARNING, ERROR, CRITICAL)

NAMES = {
    "trace": DEBUG,
    "debug": DEBUG,
    "verbose": DEBUG,
    "info": INFO,
    "information": INFO,
    "notice": INFO,
    "log": INFO,
    "default": INFO,
    "warn": WARNING,
    "warning": WARNING,
    "err": ERROR,
    "error": ERROR,
    "severe": ERROR,
    "crit": CRITICAL,
    "critical": CRITICAL,
    "fatal": CRITICAL,
    "panic": CRITICAL,
    "alert": CRITICAL,
    "emerg": CRITICAL,
    "emergency": CRITICAL,
    # PostgreSQL's continuations
    "detail": CONTEXT,
    "hint": CONTEXT,
    "context": CONTEXT,
    "statement": CONTEXT,
    "query": CONTEXT,
    "location": CONTEXT,
    # Loguru
    "success": INFO,
    # Erlang
    "crash": ERROR,
    # PostgreSQL in other languages (lc_messages). Other words there belong to the line before.
    "hinweis": INFO,
    "warnung": WARNING,
    "fehler": ERROR,
    "panik": CRITICAL,
    "attention": WARNING,
    "erreur": ERROR,
    "advertencia": WARNING,
    "attenzione": WARNING,
    "errore": ERROR,
    "fatale": CRITICAL,
    "aviso": WARNING,
    "erro": ERROR,
}
# Severities of syslog, as in the journal's PRIORITY and in GELF.
SYSLOG = {0: CRITICAL, 1: CRITICAL, 2: CRITICAL, 3: ERROR, 4: WARNING, 5: INFO, 6: INFO, 7: DEBUG}

# In lower case. "levelname" is first: Python's "level" beside it is another number.
JSON_LEVELS = ("levelname", "level", "severity", "log.level", "log_level", "loglevel", "lvl", "@level", "priority")
JSON_MESSAGES = ("message", "msg", "event", "@message", "text", "log", "error", "err")
JSON_EXCEPTIONS = ("exc_info", "exception", "exc_text", "stack_trace", "traceback", "stack", "error", "err")

# Fields that name what failed. "filename" is the source file of Python's logging.
JSON_DETAILS = ("path", "file", "file_path", "filepath", "url", "host", "queue", "track", "error", "reason")

LOGFMT = re.compile(r"""(?:^|\s)(?:level|lvl|severity)="?([A-Za-z]+)"?(?=\s|$)""")
LOGFMT_MESSAGE = re.compile(r"""(?:^|\s)(?:msg|message)=(?:"((?:[^"\\]|\\.)*)"|(\S+))""")

HTTP_FAILED = re.compile(r"""\bHTTP/\d(?:\.\d)?\\?"?\s+5\d\d\b""")

# PostgreSQL: a process that was killed, or that could not be started, and WAL that cannot be archived.
LOGGED_FAILURES = re.compile(
    r"\bLOG:  (?:[\w ]{1,60} \(PID \d+\) was terminated by signal|could not fork |could not bind |"
    r"archive command failed with exit code)"
)

# The level is the first group. It follows at most a date, a name and a process id.
FORMATS = tuple(
    re.compile(pattern)
    for pattern in (
        # PostgreSQL: 2026-11-25 08:24:07.693 UTC [29] tracktion@tracktion ERROR:  ...
        r"^.{0,120}?\b(DEBUG|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|"
        r"DETAIL|HINT|CONTEXT|STATEMENT|QUERY|LOCATION)[1-5]?:  ",
        # PostgreSQL in another language: ... [29] tracktion@tracktion FEHLER:  ...
        r"^\d{4}-\d\d-\d\d [\d:.]{8,15} \S{1,10} \[\d+\] (?:\S{1,100} )?([^\W\d_]{2,20}) ?:  ",
        # RabbitMQ, nginx, Apache, structlog: [error] <0.1.0> ...
        r"^.{0,80}?[\[<](?:\w+:)?(debug|info|notice|warn|warning|error|crit|critical|alert|emerg|emergency) *[\]>]",
        # Python's logging, log4j, uvicorn, tracing and most others: a word in upper case.
        r"^.{0,120}?(?<![\w./=-])\[?"
        r"(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|CRIT|FATAL|PANIC|ALERT|EMERG|SUCCESS)"
        r"\]?(?=[\s:|\]/-]|$)",
        # A date and a word: 2026-11-25 08:24:16 error: ..., [2026-11-25 08:24:16] app.ERROR: ..., daemon.err of syslog
        r"^[\[\d][\d\s:.,TZ+/\]-]{7,40}(?:\w{1,20}\.)?(?i:(debug|info|notice|warn|warning|error|critical|alert|emergency|fatal)):",
        r"^.{15,80}? (?:kern|user|mail|daemon|auth|authpriv|syslog|cron|local[0-7])\."
        r"(debug|info|notice|warn|warning|err|error|crit|alert|emerg) ",
        # Erlang
        r"^=(INFO|WARNING|ERROR|CRASH) REPORT=",
        # Python's warnings: file.py:12: DeprecationWarning: ...
        r"^\S+:\d+: \w*(Warning): ",
    )
)
# A priority before the line: facility and severity for syslog, the severity alone for systemd.
PRIORITY = re.compile(r"^<(\d{1,3})>(?=\S)")
# Redis: 7:M 25 Nov 2026 08:24:07.310 # ... The mark # is a warning, also in its banner, so words decide.
REDIS = re.compile(r"^\d+:[XCSM] \d\d \w{3} (?:\d{4} )?\d\d:\d\d:\d\d\.\d+ ([.\-*#]) (.*)", re.S)

# Phrases that only mention errors.
HARMLESS = re.compile(
    "|".join(
        (
            r"\b(?:0|no|zero|without|any|if|on|ignore|ignoring|ignored|clear(?:ed|ing)?|not an)\s+(?:\w+\s+)?"
            r"(?:errors?|failures?|failed|exceptions?|warnings?|panics?)\b|\b0\s+(?:\w+\s+)?denied\b",
            r"\b\w{0,30}(?:errors?|failures?|failed|exceptions?|warnings?|denied)\w{0,30}"
            r"(?: (?:rate|count|ratio|total))?"
            r"[\"']?\s*(?:[=:]|is|are)\s*"
            r"(?:\"\"|''|[\"']?(?:0(?:\.0+)?%?|none|null|nil|false|no(?! \w)|\[\]|\{\})(?![\w.]))",
            r"\b(?:errors?|failures?|exceptions?|warnings?)"
            r"(?:[_.-](?:count|rate|total|logs?|handler|page|code|budget|reporting)|level)\w*",
            # Names, except error codes in upper case such as PRECONDITION_FAILED.
            r"\w[-_./](?-i:errors?|failed|failures?|exceptions?|warnings?)\b(?![.:])",
            r"/(?:errors?|failed|failures?|exceptions?)(?=[/\s?\"])",
            r"\b[\w-]{0,30}(?:error|fail|exception|warning)[\w-]{0,30}\.(?:log|css|js|html?|txt|json|png|svg|php|py|go)\b(?!:)",
            r"\b(?:fail|error)[-_ ]?(?:over|safe|fast|tolerant|resistant|free)\b",
            r"\b(?:errors?|warnings?|exceptions?|failures?) "
            r"(?:handling|reporting|logging|handler|log|events?|detect(?:or|ion))\b",
            r"\bcritical section|\bnon-critical\b",
            # Names of audio files may contain any word.
            r"/[\w.-]{1,60}/(?:(?!: )[^\n\"'|]){0,200}?\.(?:mp3|flac|wav|m4a|ogg|opus|aac|aiff?|wma)\b",
        )
    ),
    re.I,
)
# A level that is a setting, not that of the line.
LEVEL_SETTING = re.compile(r"\blog(?:ging)?[-_ ]?level\W{1,4}(?:(?:is|was|set|to|now|changed)\W{1,3}){0,3}\w+", re.I)
WORDS = (
    (CRITICAL, re.compile(r"\b(?:fatal|panic(?:ked)?|critical|segmentation fault|segfault|core dumped)\b", re.I)),
    (
        ERROR,
        re.compile(
            r"\b(?:errors?|err|exception|traceback|failed|failure|fails|failing|unhandled|uncaught|aborted|denied|"
            r"crash(?:ed|ing)|fail(?= to ))\b|"
            r"\w(?:Error|Exception)\b|\bexceptions\.\w|(?-i:[A-Z]_(?:FAILED|ERROR|REFUSED|TIMEOUT))\b|"
            r"\b(?:cannot|could not|can't|unable to) (?!find any)",
            re.I,
        ),
    ),
    (WARNING, re.compile(r"\bwarn(?:ing)?s?\b|\bdeprecat(?:ed|ion)\b|\wWarning\b", re.I)),
)

# Lines that may be warnings or errors; all others are only counted. Searched in blocks of bytes in lower case, one pass
# for each pattern: that is ten times as fast as one combined pattern.
CANDIDATES = (
    r"e(?:rr(?:o|eur|[ :!\]])|xcept|merg)|f(?:ail|atal|ehler)|c(?:rit|annot |ould not |an't |rash|ore dumped)|panic|"
    r"warn|t(?:race|erminated by signal)|archive command|de(?:nied|prec)|a(?:lert|borted|dvertencia|ttenzione)|"
    r"un(?:handled|caught|able to )|se(?:gfault|gmentation f|vere)",
    # A status of HTTP, a level of bunyan or pino.
    r"\" 5\d\d|\":\s?[456]0\b",
    # A priority of syslog, which the engine escapes in JSON.
    r"<\d{1,3}>",
    r"\\u003c\d{1,3}\\u003e",
)


def read(text: str) -> tuple[str, str]:
    """Return the level and the message of a line without its line end."""
    structured = _structured(text)
    if structured:
        return structured
    found = LOGFMT.search(text, 0, 400)
    if found and found.group(1).lower() in NAMES:
        message = LOGFMT_MESSAGE.search(text)
        return NAMES[found.group(1).lower()], (message.group(1) or message.group(2)) if message else text
    if HTTP_FAILED.search(text) or LOGGED_FAILURES.search(text, 0, 300):
        return ERROR, text
    redis = REDIS.match(text)
    if redis:
        return (by_words(redis.group(2)) if redis.group(1) == "#" else INFO), redis.group(2)
    priority = PRIORITY.match(text)
    if priority:
        return SYSLOG[int(priority.group(1)) & 7], text[priority.end() :]
    without_settings = LEVEL_SETTING.sub(" ", text)
    return by_format(without_settings) or by_words(without_settings), text


def has_level(text: str) -> bool:
    """Return whether a line holds its level in any format."""
    if _structured(text) or LOGFMT.search(text, 0, 400) or REDIS.match(text) or PRIORITY.match(text):
        return True
    return by_format(text) is not None


def by_format(text: str) -> str | None:
    """Return the level by ``FORMATS``, the first one in the line; null for none."""
    first, level = 1 << 20, None
    for pattern in FORMATS:
        found = pattern.search(text)
        if found and found.start(1) < first:
            first, level = found.start(1), NAMES.get(found.group(1).lower(), CONTEXT)
    return level


def by_words(text: str) -> str:
    """Return the level of a line that holds none."""
    text = HARMLESS.sub(" ", text)
    for level, words in WORDS:
        if words.search(text):
            return level
    return INFO


def _structured(text: str) -> tuple[str, str] | None:
    """Return the level and the message of a JSON line, which may begin with a time; null for any other line."""
    start = text.find("{", 0, 60)
    if start < 0 or text.rstrip()[-1:] != "}" or (start and by_format(text[:start])):
        return None
    return _from_json(text[start:])


def details(text: str) -> str:
    """Return fields of a JSON line that name what failed: path, file, error and the like; empty for any other line."""
    if text[:1] != "{":
        return ""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    found = [(name, fields[name]) for name in JSON_DETAILS if isinstance(fields.get(name), str)]
    return ", ".join("%s=%s" % (name, value) for name, value in found if "\n" not in value)


def _from_json(text: str) -> tuple[str, str] | None:
    try:
        fields = {name.lower(): value for name, value in json.loads(text).items()}
    except (ValueError, RecursionError):
        return None
    if isinstance(fields.get("log"), dict):
        # Elastic: {"log": {"level": ...}}
        fields["log.level"] = fields.pop("log").get("level")
    level = None
    for name in JSON_LEVELS:
        if name in fields:
            level = _level_of(fields[name])
            break
    if level is None:
        return None
    message = next((fields[name] for name in JSON_MESSAGES if fields.get(name)), text)
    message = message if isinstance(message, str) else json.dumps(message)
    for name in JSON_EXCEPTIONS:
        trace = fields.get(name)
        if isinstance(trace, str) and "\n" in trace.strip() and trace != message:
            return level, "%s\n%s" % (message, trace)
    return level, message


def _level_of(value: object) -> str | None:
    """Return the level for the value of a field: a name, a severity of syslog, or a level of bunyan and pino."""
    if isinstance(value, str):
        return NAMES.get(value.lower()) if not value.isdigit() else _level_of(int(value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if value < 8:
        return SYSLOG.get(int(value))
    # bunyan and pino count in tens. Python's numbers are rarely logged as a level.
    return CRITICAL if value >= 60 else ERROR if value >= 50 else WARNING if value >= 40 else INFO
