# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses and answers as they may be shown: without what opens a door. Private to this collection."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._redact import HIDDEN, NAMES, redact

# Whose secret it was that redact() has hidden: user@ in a URL, the scheme in a header.
WHOSE = (
    (re.compile(r"(://)[^/\s@\"']+@"), r"\1***@"),
    (re.compile(r"(authorization\W{1,9})[\w-]+ \*\*\*", re.I), r"\1***"),
)
# In a query, short names tell as well.
PARAMETER = re.compile(r"^([^=]*(?:%s|authorization|session)[^=]*|key|auth|sig|code|state)=.*" % NAMES, re.I | re.S)
ANY_PARAMETER = re.compile(r"^([^=]*)=.*", re.S)
# Shorter values are no secrets worth the name, and hiding each "1" would make nonsense of the text.
SHORTEST = 4


def excerpt(text, secrets, limit):
    """The beginning of an answer in one line, without these ``secrets`` and without what looks like one."""
    return cut(" ".join(hide(text, secrets).split()), limit)


def hide(text, secrets=()):
    for secret in sorted((secret for secret in secrets if len(secret) >= SHORTEST), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = redact(text)
    for pattern, shown in WHOSE:
        text = pattern.sub(shown, text)
    return text


def shown_url(url, whole_query=True):
    """A URL without user, password and fragment; parameters with a secret's name, or all, keep only their names."""
    parts = urlsplit(url)
    hidden = PARAMETER if whole_query else ANY_PARAMETER
    query = "&".join(hidden.sub(r"\1=" + HIDDEN, parameter) for parameter in parts.query.split("&"))
    return cut(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, "")), 300)


def secrets_in(url):
    """What shown_url() hides: ``user:password``, and the values of parameters with a secret's name."""
    login = re.match(r"[^/?#]*//([^/?#]*)@", url)
    query = url.partition("?")[2].partition("#")[0]
    values = [parameter.partition("=")[2] for parameter in query.split("&") if PARAMETER.match(parameter)]
    return {secret for secret in [login.group(1) if login else "", *values] if len(secret) >= SHORTEST}
