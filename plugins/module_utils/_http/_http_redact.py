# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses and answers as they may be shown: they open no door and move no cursor. Private to this collection."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import HIDDEN, NAMES, redact

# Whose secret it was that redact() has hidden: user@ in a URL, the scheme in a header.
WHOSE = (
    (re.compile(r"(://)[^/\s@\"']+@"), r"\1***@"),
    (re.compile(r"(authorization\W{1,9})[\w-]+ \*\*\*", re.I), r"\1***"),
)
# In a query, short names tell as well.
PARAMETER = re.compile(r"^([^=]*(?:%s|authorization|session)[^=]*|key|auth|sig|code|state)=.*" % NAMES, re.I | re.S)
ANY_PARAMETER = re.compile(r"^([^=]*)=.*", re.S)
# What needs no escape in a URL, nor between single quotes in a shell.
PASTABLE = "/%:=&?~+!$,;@()*"
# Shorter values are no secrets worth the name, and hiding each "1" would make nonsense of the text.
SHORTEST = 4


def excerpt(text, secrets, limit):
    """The beginning of an answer in one line, without these ``secrets`` and without what looks like one."""
    return cut(" ".join(hide(text, secrets).split()), limit)


def hide(text, secrets=()):
    """``text`` without these ``secrets``, without what looks like one, and without what a terminal would obey."""
    text = printable(text.replace("\r\n", "\n"))
    for secret in sorted((secret for secret in secrets if len(secret) >= SHORTEST), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = redact(text)
    for pattern, shown in WHOSE:
        text = pattern.sub(shown, text)
    return text


def shown_url(url, whole_query=True):
    """A URL without user, password and fragment; parameters with a secret's name, or all, keep only their names.

    It can be pasted between single quotes.
    """
    parts = urlsplit(url)
    hidden = PARAMETER if whole_query else ANY_PARAMETER
    query = "&".join(hidden.sub(r"\1=" + HIDDEN, parameter) for parameter in parts.query.split("&"))
    host = parts.netloc.rpartition("@")[2].replace("'", "%27")
    return cut(urlunsplit((parts.scheme, host, quote(parts.path, safe=PASTABLE), quote(query, safe=PASTABLE), "")), 300)


def secrets_in(url):
    """What shown_url() hides: ``user:password``, and the values of parameters with a secret's name."""
    query = url.partition("?")[2].partition("#")[0]
    values = [parameter.partition("=")[2] for parameter in query.split("&") if PARAMETER.match(parameter)]
    return {secret for secret in [_login(url), *values] if len(secret) >= SHORTEST}


def _login(url):
    """What stands before the host of a URL, else nothing."""
    rest = url.partition("//")[2]
    try:
        _port = urlsplit(url).port
    except ValueError:
        # A password with a / or # that nobody has escaped cuts the host short. It may go on up to the last @.
        return rest.rpartition("@")[0]
    return re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[0]


def values_in(body):
    """The single values of a body in JSON, or of a form: an answer may repeat one of them alone."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return [value for _name, value in parse_qsl(body)]
    found = []
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            waiting += value.values() if isinstance(value, dict) else value
        elif value is not None and not isinstance(value, bool):
            found.append(str(value))
    return found
