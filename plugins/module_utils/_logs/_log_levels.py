# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How bad a line of a log is, and what it says. Private to this collection.

The rules are data, read from top to bottom; the first that fits decides:

1. A JSON line says its level in a field (``JSON_LEVELS``), a logfmt line in ``level=``.
2. An answer of HTTP with a status of 5xx is an error, whatever level the line has.
3. A program's own way to write levels (``FORMATS``): PostgreSQL, RabbitMQ, Redis, nginx, Python's logging, syslog.
4. Anything else is judged by its words (``WORDS``), once those phrases are taken out that only mention them
   (``HARMLESS``): "0 errors", "error_count=0", "no error", "error.log".
"""

from __future__ import annotations

import json
import re

DEBUG, INFO, WARNING, ERROR, CRITICAL = "debug", "info", "warning", "error", "critical"
# Belongs to the line before it, as PostgreSQL's DETAIL and STATEMENT do.
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
    # PostgreSQL in other languages (lc_messages). Whatever else it writes there belongs to the line before it.
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
# syslog's numbers, of a journal's PRIORITY and of GELF.
SYSLOG = {0: CRITICAL, 1: CRITICAL, 2: CRITICAL, 3: ERROR, 4: WARNING, 5: INFO, 6: INFO, 7: DEBUG}

# In small letters. Python's "level" beside a "levelname" is a number of its own.
JSON_LEVELS = ("levelname", "level", "severity", "log.level", "log_level", "loglevel", "lvl", "@level", "priority")
JSON_MESSAGES = ("message", "msg", "event", "@message", "text", "log", "error", "err")
JSON_EXCEPTIONS = ("exc_info", "exception", "exc_text", "stack_trace", "traceback", "stack", "error", "err")

LOGFMT = re.compile(r"""(?:^|\s)(?:level|lvl|severity)="?([A-Za-z]+)"?(?=\s|$)""")
LOGFMT_MESSAGE = re.compile(r"""(?:^|\s)(?:msg|message)=(?:"((?:[^"\\]|\\.)*)"|(\S+))""")

HTTP_FAILED = re.compile(r"""\bHTTP/\d(?:\.\d)?\\?"?\s+5\d\d\b""")

# The level is the first group. What comes before it is at most a date, a name, a number of a process.
FORMATS = tuple(
    re.compile(pattern)
    for pattern in (
        # PostgreSQL: 2026-11-25 08:24:07.693 UTC [29] tracktion@tracktion ERROR:  ...
        r"^.{0,120}?\b(DEBUG|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|"
        r"DETAIL|HINT|CONTEXT|STATEMENT|QUERY|LOCATION)[1-5]?:  ",
        # The same in the language of the server: ... [29] tracktion@tracktion FEHLER:  ...
        r"^\d{4}-\d\d-\d\d [\d:.]{8,15} \S{1,10} \[\d+\] (?:\S{1,100} )?([^\W\d_]{2,20}) ?:  ",
        # RabbitMQ, nginx, Apache, structlog: [error] <0.1.0> ...
        r"^.{0,80}?[\[<](?:\w+:)?(debug|info|notice|warn|warning|error|crit|critical|alert|emerg|emergency) *[\]>]",
        # Python's logging, log4j, uvicorn, tracing and most others: a word in capitals.
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
# syslog's own number before the line, facility and severity in one; systemd's is the severity alone.
PRIORITY = re.compile(r"^<(\d{1,3})>(?=\S)")
# Redis: 7:M 25 Nov 2026 08:24:07.310 # ... The mark # is its warning, which its banner has too: words decide there.
REDIS = re.compile(r"^\d+:[XCSM] \d\d \w{3} (?:\d{4} )?\d\d:\d\d:\d\d\.\d+ ([.\-*#]) (.*)", re.S)

# What only mentions errors.
HARMLESS = re.compile(
    "|".join(
        (
            r"\b(?:0|no|zero|without|any|if|on|ignore|ignoring|ignored|clear(?:ed|ing)?|not an)\s+(?:\w+\s+)?"
            r"(?:errors?|failures?|failed|exceptions?|warnings?|panics?)\b|\b0\s+(?:\w+\s+)?denied\b",
            r"\b\w{0,30}(?:errors?|failures?|failed|exceptions?|warnings?|denied)\w{0,30}"
            r"(?: (?:rate|count|ratio|total))?"
            r"[\"']?\s*(?:[=:]|is|are)\s*(?:\"\"|''|[\"']?(?:0(?:\.0+)?%?|none|null|nil|false|no|\[\]|\{\})(?![\w.]))",
            r"\b(?:errors?|failures?|exceptions?|warnings?)"
            r"(?:[_.-](?:count|rate|total|logs?|handler|page|code|budget|reporting)|level)\w*",
            # Names, unless they are those of a code in capitals, as PRECONDITION_FAILED.
            r"\w[-_./](?-i:errors?|failed|failures?|exceptions?|warnings?)\b(?![.:])",
            r"/(?:errors?|failed|failures?|exceptions?)(?=[/\s?\"])",
            r"\b[\w-]{0,30}(?:error|fail|exception|warning)[\w-]{0,30}\.(?:log|css|js|html?|txt|json|png|svg|php|py|go)\b(?!:)",
            r"\b(?:fail|error)[-_ ]?(?:over|safe|fast|tolerant|resistant|free)\b",
            r"\b(?:errors?|warnings?|exceptions?|failures?) "
            r"(?:handling|reporting|logging|handler|log|events?|detect(?:or|ion))\b",
            r"\bcritical section|\bnon-critical\b",
            # The name of a piece of music may say anything.
            r"/[\w.-]{1,60}/(?:(?!: )[^\n\"'|]){0,200}?\.(?:mp3|flac|wav|m4a|ogg|opus|aac|aiff?|wma)\b",
        )
    ),
    re.I,
)
# A level that is only talked about.
LEVEL_TALK = re.compile(r"\blog(?:ging)?[-_ ]?level\W{1,4}(?:(?:is|was|set|to|now|changed)\W{1,3}){0,3}\w+", re.I)
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

# What a line has to hold so that it is worth a closer look; everything else is only counted. Read by the block, in
# bytes and small letters, in several passes: this shape of patterns goes ten times as fast as one of all.
LOOK_CLOSER = (
    r"e(?:rr(?:o|eur|[ :!\]])|xcept|merg)|f(?:ail|atal|ehler)|c(?:rit|annot |ould not |an't |rash|ore dumped)|panic|"
    r"warn|trace|de(?:nied|prec)|a(?:lert|borted|dvertencia|ttenzione)|un(?:handled|caught|able to )|"
    r"se(?:gfault|gmentation f|vere)",
    # A status of HTTP, a level in tens.
    r"\" 5\d\d|\":\s?[456]0\b",
    # syslog's number, which the engine escapes.
    r"<\d{1,3}>",
    r"\\u003c\d{1,3}\\u003e",
)


def read(text):
    """``(level, message)`` of a line without its line end."""
    structured = _structured(text)
    if structured:
        return structured
    found = LOGFMT.search(text, 0, 400)
    if found and found.group(1).lower() in NAMES:
        message = LOGFMT_MESSAGE.search(text)
        return NAMES[found.group(1).lower()], (message.group(1) or message.group(2)) if message else text
    if HTTP_FAILED.search(text):
        return ERROR, text
    redis = REDIS.match(text)
    if redis:
        return (by_words(redis.group(2)) if redis.group(1) == "#" else INFO), redis.group(2)
    priority = PRIORITY.match(text)
    if priority:
        return SYSLOG[int(priority.group(1)) & 7], text[priority.end() :]
    spoken = LEVEL_TALK.sub(" ", text)
    return by_format(spoken) or by_words(spoken), text


def says_level(text):
    """Whether a line says its level itself, in one way or another."""
    if _structured(text) or LOGFMT.search(text, 0, 400) or REDIS.match(text) or PRIORITY.match(text):
        return True
    return by_format(text) is not None


def by_format(text):
    """The level that a program has written into its line, null where none is found."""
    first, level = 1 << 20, None
    for pattern in FORMATS:
        found = pattern.search(text)
        if found and found.start(1) < first:
            first, level = found.start(1), NAMES.get(found.group(1).lower(), CONTEXT)
    return level


def by_words(text):
    """The level of a line that says none."""
    text = HARMLESS.sub(" ", text)
    for level, words in WORDS:
        if words.search(text):
            return level
    return INFO


def _structured(text):
    """The level and the message of a line in JSON, with at most its time before it; null for any other."""
    start = text.find("{", 0, 60)
    if start < 0 or text.rstrip()[-1:] != "}" or (start and by_format(text[:start])):
        return None
    return _from_json(text[start:])


def _from_json(text):
    try:
        fields = {name.lower(): value for name, value in json.loads(text).items()}
    except (ValueError, RecursionError):
        return None
    if isinstance(fields.get("log"), dict):
        # As Elastic has it: {"log": {"level": ...}}
        fields["log.level"] = fields.pop("log").get("level")
    level = None
    for name in JSON_LEVELS:
        if name in fields:
            level = _level_of(fields[name], name)
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


def _level_of(value, name):
    if isinstance(value, str):
        return NAMES.get(value.lower()) if not value.isdigit() else _level_of(int(value), name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if value < 8:
        return SYSLOG.get(int(value))
    # The tens of bunyan and pino. (Python's own numbers are rarely logged as a level.)
    return CRITICAL if value >= 60 else ERROR if value >= 50 else WARNING if value >= 40 else INFO
