# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Classifies failed visits: the cause and a hint. Pure. Private to this collection."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils import basic
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

UNREACHABLE, FAILED = "host.unreachable", "host.visit_failed"
# Characters of a host's own text that a finding quotes.
QUOTED = 300
# Characters at each end of a text that are searched for a cause: its size is not limited.
SEARCHED = 8000
# The oldest Python that modules of this ansible-core run with.
NEEDED = ".".join(map(str, getattr(basic, "_PY_MIN", (3, 8))))
# The start of the module's own result in the output.
RESULT = re.compile(r'\{"(?:changed|measured|host|python)": ')
# What Ansible puts before the output of a program.
OPENING = re.compile(
    r"^(?:Task failed: |Failed to connect to the host via \w+: |ssh: |"
    r"Data could not be sent to remote host \S+ Make sure this host can be reached over ssh: ?)*"
)
PATH = re.compile(r"Offending \S+ key in (.+?):\d+")


@dataclass(frozen=True)
class Connection:
    """How the controller connects. Unknown fields are empty."""

    plugin: str = ""
    host: str = ""
    port: str = ""
    user: str = ""
    become_method: str = ""
    become_user: str = ""
    # The interpreter, and whether the inventory sets it.
    python: str = ""
    python_configured: bool = False


@dataclass(frozen=True)
class Failure:
    """``kind`` is a stable word for the cause, ``check_id`` the finding's id."""

    kind: str
    check_id: str
    summary: str
    hint: str


@dataclass(frozen=True)
class _Cause:
    """A cause and the pattern of its texts, in ``msg`` and standard error, and with ``output`` in standard output."""

    kind: str
    pattern: str
    summary: str
    hint: str
    check_id: str = FAILED
    output: bool = False


# In the order in which they are tried: the more specific first. _words() has the values for the hints.
CAUSES = (
    _Cause("timeout", r"^Timed out after|Task failed: Timed out after",
           "the visit was not finished within its time limit",
           "Find what keeps the host busy: `{raw} 'uptime; ps -eo stat,etime,args --sort=-etime | head -n 20'`. "
           "If the host is slow, raise tracktion_visit_timeout"),
    _Cause("too_large", r"^The answer (?:has|takes) more than",
           "the result of the host is too large",
           "Check which program prints when a command runs on the host: `{raw} true | head -c 2000`"),
    # ssh
    _Cause("unresolved", r"could not resolve hostname|name or service not known|temporary failure in name resolution|"
           r"nodename nor servname",
           "the name of the host cannot be resolved",
           "Correct `ansible_host` of {probe_host}, or add the name to DNS or /etc/hosts. Test: `getent hosts {host}`",
           UNREACHABLE),
    _Cause("host_key_changed", r"host key for \S+ has changed|"
           r"remote host identification has changed(?!(?s:.*)host key for)",
           "the host key has changed",
           "Compare the fingerprint with that of the host. If the host was reinstalled, remove the old key: "
           "`ssh-keygen{known_hosts} -R {known_name}`, then `ssh{port} {target} true`",
           UNREACHABLE),
    _Cause("host_key_unknown", r"host key verification failed|authenticity of host .* can't be established|"
           r"no \S+ host key is known",
           "the controller does not know the host key",
           "Connect once, compare the fingerprint and accept the key: `ssh{port} {target} true`", UNREACHABLE),
    _Cause("key_permissions", r"unprotected private key file|bad permissions",
           "ssh ignores a private key that others can read",
           "Make the key private: `chmod 600 KEYFILE`, with the file named above", UNREACHABLE),
    _Cause("authentication", r"permission denied \(|permission denied, please try again|"
           r"too many authentication failures|invalid/incorrect password|"
           r"no more authentication methods|authentication failed",
           "the host rejects the login",
           "Correct `ansible_user` and the key or password of {probe_host}. "
           "Install the key: `ssh-copy-id{port} {target}`",
           UNREACHABLE),
    _Cause("sshpass", r"install the sshpass program",
           "ssh with a password needs the program sshpass on the controller",
           "Install it: `apt-get install sshpass`, or use a key: `ssh-copy-id{port} {target}`", UNREACHABLE),
    _Cause("refused", r"connection refused",
           "the connection was refused: no ssh server listens on this address and port",
           "Start the ssh server on the host, or correct `ansible_host` and `ansible_port` of {probe_host}. "
           "Test: `ssh{port} {target} true`", UNREACHABLE),
    _Cause("no_route", r"no route to host|network is unreachable|host is down",
           "there is no route to the host",
           "Check that the host is up, and the network between: `ping -c 3 {host}`, `ip route get {host}`",
           UNREACHABLE),
    _Cause("connection_timeout", r"timed out during banner exchange|connection timed out|operation timed out|"
           r"timed out during (?:opening|authentication)|connect to host .* timed out",
           "the host does not answer",
           "Check that the host is up and that no firewall drops the packets: `ping -c 3 {host}`, "
           "`ssh -v{port} {target} true`", UNREACHABLE),
    # Privilege escalation
    _Cause("become_password_missing", r"missing \S+ password|a password is required|no password was provided|"
           r"a terminal is required to (?:read|authenticate)|interactive authentication is required",
           "{become} asks for a password, and none was given",
           "Repeat with `--ask-become-pass`, or set `ansible_become_password` from a vault. Test: `{ping_password}`"),
    _Cause("become_password_wrong", r"incorrect \S+ password|incorrect password attempt|sorry, try again|"
           r"su: authentication failure|duplicate become password prompt",
           "{become} rejects the password",
           "Correct `ansible_become_password` of {probe_host}. Test: `{ping_password}`"),
    _Cause("become_requiretty", r"you must have a tty|no tty present",
           "{become} needs a terminal (requiretty), which a pipelined module does not have",
           "On the host, add the line `Defaults:{user} !requiretty` with `visudo -f /etc/sudoers.d/tracktion`; "
           "or set `ansible_pipelining: false` for {probe_host}"),
    _Cause("become_not_allowed", r"is not in the sudoers file|is not allowed to (?:execute|run)|may not run sudo|"
           r"not permitted to|operation not permitted by doas|doas: operation not permitted|not authorized",
           "{user} is not allowed to become {become_user}",
           "On the host, add the line `{user} ALL=({become_user}) ALL` with `visudo -f /etc/sudoers.d/tracktion`; "
           "or run without become. Test: `{ping_password}`"),
    _Cause("become_missing", r"(?:sudo|su|doas|pbrun|pfexec): (?:command )?not found",
           "the host has no {become}",
           "Install it, or set another `ansible_become_method`. Without become: `{raw} 'command -v sudo su doas'`"),
    _Cause("become_timeout", r"waiting for privilege escalation prompt|privilege output closed",
           "{become} did not answer",
           "Test on the host whether {become} hangs (DNS, LDAP, a broken PAM module): "
           "`ssh{port} {target} time sudo -n true`"),
    # The host's disks
    _Cause("temporary_full", r"no space left on device|disk quota exceeded",
           "no space is left for temporary files",
           "Free space or inodes: `{raw} 'df -h /tmp /var/tmp ~; df -i /tmp /var/tmp ~'`", output=True),
    _Cause("temporary_unwritable", r"read-only file system|no usable temporary directory|"
           r"failed to create temporary directory|cannot create (?:temporary )?directory",
           "no temporary directory of the host can be written (full, read-only or without permission)",
           "Check the file systems: `{raw} 'df -h /tmp /var/tmp ~; grep -w ro /proc/mounts'`. Make one of them "
           "writable, or name a writable one: `ansible_remote_tmp` for {probe_host}", output=True),
    # Python
    _Cause("python_old", r"future feature annotations is not defined|requires a minimum of Python|"
           r"no module named ['\"]?ansible.module_utils.six.moves|SyntaxError: invalid syntax",
           "the Python of the host is too old",
           "Install Python {needed} or later, then set `ansible_python_interpreter` of {probe_host}. "
           "Installed: `{raw} 'ls /usr/bin/python3* /usr/local/bin/python3*'`", output=True),
    _Cause("python_path", r"module interpreter .* was not found|no such file or directory: .*python|"
           r"python[\d.]*: (?:command )?not found|python[\d.]*: no such file|no python interpreters? found|"
           r"/python[\w.]*: permission denied|can't open file .*python",
           "the Python interpreter {python} cannot be started",
           "{python_hint}", output=True),
    # The connection
    _Cause("connection_lost", r"connection (?:to \S+ )?closed|shared connection|connection reset|broken pipe|"
           r"client_loop: send disconnect|lost connection|connection aborted|mux_client|"
           r"data could not be sent to remote host|failed to connect to the host via",
           "the connection ended before the result",
           "Read the log of sshd on the host (`journalctl -u ssh -n 50`); check memory and limits of the session. "
           "Test: `{ping}`", UNREACHABLE),
    _Cause("plugin", r"connection plugin .* was not found|invalid become method|become plugin .* not found|"
           r"could not find matching plugin",
           "a plugin that the inventory names does not exist",
           "Correct `ansible_connection` or `ansible_become_method` of {probe_host}. "
           "All variables of the host: `{inventory_host}`. "
           "Existing plugins: `ansible-doc -t connection -l`, `ansible-doc -t become -l`"),
    _Cause("variables", r"is undefined|undefined variable|recursive loop detected|error while resolving value|"
           r"could not be (?:found|resolved)|templat(?:e|ing)",
           "a variable of the host cannot be resolved",
           "Correct the variable named above. All variables of the host: `{inventory_host}`"),
)  # fmt: skip
KILLED = _Cause(
    "killed", "", "the interpreter was killed (signal {signal})",
    "Check the memory: `{raw_become} 'dmesg | grep -i -e oom -e killed | tail; free -m'`")  # fmt: skip
OUTPUT_BEFORE = _Cause(
    "output_before_result", "", "the login prints text that hides the module's result",
    "Make the shell's start files (~/.bashrc, /etc/profile.d) print nothing without a terminal. "
    "`ssh{port} {target} true` must print nothing")  # fmt: skip
GARBAGE = _Cause("no_result", "", "the interpreter {python} printed no result",
                 "Read its output: `{ping}`, and without Ansible: `{raw} '{python} -V'`")  # fmt: skip
CRASHED = _Cause("crashed", "", "the module ended with an error", "Read the whole error: `{ping}`")
OTHER = _Cause("other", "", "the visit failed", "Find the step that fails: `{ping}`")
CORRECT_PYTHON = "Correct `ansible_python_interpreter` of {0}. Installed: `{1} 'ls /usr/bin/python3*'`"
INSTALL_PYTHON = (
    "Install Python {3} or later: `{2} 'apt-get install --yes python3'`; if it is installed, "
    "set `ansible_python_interpreter` of {0}: `{1} 'ls /usr/bin/python3* /usr/local/bin/python3*'`"
)
# The exit status of a command that a signal ended, less 128.
SIGNALS = {
    4: "ILL",
    6: "ABRT",
    7: "BUS",
    8: "FPE",
    9: "KILL",
    11: "SEGV",
    15: "TERM",
    24: "XCPU",
    25: "XFSZ",
    31: "SYS",
}


def classify(
    result: Mapping[str, Any], probe_host: str, connection: Connection | None = None, inventories: Sequence[str] = ()
) -> Failure:
    """Return the cause of a failed visit and its hint.

    ``result`` is what Ansible registers: ``msg``, ``rc``, ``module_stdout``, ``module_stderr``, ``unreachable``,
    ``exception``, each optional and of any type.
    """
    connection = connection or Connection()
    message = _text(result, "msg") or _text(result, "exception")
    errors, output = _text(result, "module_stderr"), _text(result, "module_stdout")
    cause, quoted = _cause(message, errors, output, _signal(result.get("rc"), errors), bool(result.get("unreachable")))
    words = _words(probe_host, connection, inventories, _signal(result.get("rc"), errors), message + "\n" + errors)
    sentence = cause.summary.format(**words)
    if cause is OUTPUT_BEFORE:
        # The measurement follows, which is not for the report.
        quoted = RESULT.split(output)[0]
    # Output of ssh has no secrets: it comes from the controller, and names only what the inventory holds.
    quoted = _quoted(quoted if cause.check_id == UNREACHABLE else redact(quoted))
    opening = "Ansible cannot reach the host" if cause.check_id == UNREACHABLE else "The visit failed"
    summary = "%s: %s%s" % (opening, sentence, ". %s" % quoted if quoted else "")
    return Failure(cause.kind, cause.check_id, summary, cause.hint.format(**words))


def bounded(result: Mapping[str, Any]) -> Values:
    """Return the fields of a failed result that ``classify`` reads, with their texts cut in the middle."""
    texts: Values = {name: _text(result, name) for name in ("msg", "module_stdout", "module_stderr") if name in result}
    code = result.get("rc")
    return {**texts, **({"rc": code} if isinstance(code, int) else {})}


def _cause(message: str, errors: str, output: str, signal: str, unreachable: bool) -> tuple[_Cause, str]:
    """Return the cause, and the text to quote."""
    if RESULT.search(output):
        return OUTPUT_BEFORE, output
    for cause in CAUSES:
        for text in (errors, message, *([output] if cause.output else [])):
            found = re.search(cause.pattern, text, re.IGNORECASE)
            if found:
                return cause, _line_of(text, found.start())
    if signal:
        return KILLED, _last_line(errors)
    if "Traceback (most recent call last)" in errors or _last_line(errors):
        return CRASHED, _last_line(errors)
    if "deserialization failed" in message.lower() or "MODULE FAILURE" in message:
        return GARBAGE, _last_line(output)
    if unreachable:
        return _Cause("unreachable", "", "no connection", OTHER.hint, UNREACHABLE), _last_line(message)
    return OTHER, message


def _signal(code: object, errors: str) -> str:
    """Return the name of the signal that ended the interpreter, or empty text."""
    if isinstance(code, int) and not isinstance(code, bool):
        number = code - 128 if code > 128 else -code
        if number in SIGNALS:
            return SIGNALS[number]
    last = _last_line(errors)
    return {"Killed": "KILL", "Segmentation fault": "SEGV", "Aborted": "ABRT"}.get(last.partition(" (core")[0], "")


def _text(result: Mapping[str, Any], name: str) -> str:
    """Return a text of the result, valid Unicode, cut in the middle: causes are in the first or in the last lines."""
    value = result.get(name)
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    if len(text) > 2 * SEARCHED:
        text = "%s\n%s" % (text[:SEARCHED], text[-SEARCHED:])
    return text.encode("utf-8", "backslashreplace").decode()


def _line_of(text: str, position: int) -> str:
    """Return the line around a position; a long line is cut before the position."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = OPENING.sub("", text[start : end if end >= 0 else len(text)])
    return line if position - start < QUOTED - 100 or len(line) < QUOTED else "\u2026" + line[position - start - 20 :]


def _last_line(text: str) -> str:
    """Return the last line that is not empty, which of a traceback is the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # ssh prints this if two hosts share one address.
    lines = [line for line in lines if not line.startswith("ControlSocket ")]
    return lines[-1] if lines else ""


def _quoted(text: str) -> str:
    text = OPENING.sub("", " ".join(printable(text).split()))
    return text if len(text) <= QUOTED else text[: QUOTED - 1] + "\u2026"


def given(inventories: Sequence[str]) -> list[str]:
    """Return the inventories as words of a command line."""
    return [word for inventory in inventories for word in ("-i", inventory)]


def _words(
    probe_host: str, connection: Connection, inventories: Sequence[str], signal: str, errors: str
) -> dict[str, str]:
    """Return the values for the hints, each quoted for a shell."""
    host = connection.host or probe_host
    user = connection.user or "USER"
    target = "%s@%s" % (connection.user, host) if connection.user else host
    port = connection.port if connection.port and connection.port != "22" else ""
    become = ["--become"]
    if connection.become_method and connection.become_method != "sudo":
        become += ["--become-method", connection.become_method]
    if connection.become_user and connection.become_user != "root":
        become += ["--become-user", connection.become_user]
    ansible = ["ansible", probe_host, *given(inventories)]
    own = become if connection.become_method else []
    known_hosts = PATH.search(errors)
    raw = ["-m", "ansible.builtin.raw", "-a"]
    python_hint = CORRECT_PYTHON if connection.python_configured else INSTALL_PYTHON
    raw_line, raw_become = shlex.join([*ansible, *raw]), shlex.join([*ansible, "--become", *raw])
    return {
        "probe_host": probe_host,
        "host": shlex.quote(host),
        "user": user,
        "target": shlex.quote(target),
        "port": " -p %s" % shlex.quote(port) if port else "",
        "known_hosts": " -f %s" % shlex.quote(known_hosts.group(1)) if known_hosts else "",
        "known_name": shlex.quote("[%s]:%s" % (host, port) if port else host),
        "become": connection.become_method or "become",
        "become_user": connection.become_user or "root",
        "python": connection.python or "python3",
        "python_hint": python_hint.format(probe_host, raw_line, raw_become, NEEDED),
        "needed": NEEDED,
        "signal": signal,
        "ping": shlex.join([*ansible, *own, "-m", "ansible.builtin.ping", "-vvv"]),
        "ping_password": shlex.join([*ansible, *become, "--ask-become-pass", "-m", "ansible.builtin.ping"]),
        "raw": raw_line,
        "raw_become": raw_become,
        "inventory_host": shlex.join(["ansible-inventory", *given(inventories), "--host", probe_host]),
    }
