# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The privileges that a role needs to measure, and the commands that grant them. Private to this collection.

A query that the server would reject is not sent: each attempt would be an ERROR in its log.
"""

from __future__ import annotations

import re
from typing import Any, Iterable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._quoting import sql_identifier

SUPERUSER = "Run as a superuser: %s"

# What the role may not use of the system catalog. ``revoked``: it is not restricted by default. The lists of privileges
# are read as has_function_privilege() reads them, which would look up each function in the catalog once more.
DENIED = """
SELECT p.proname::text AS name, 'function' AS kind,
       format('pg_catalog.%I(%s)', p.proname, replace(oidvectortypes(p.proargtypes), ', ', ',')) AS denied,
       p.oid NOT IN (SELECT i.objoid FROM pg_init_privs i WHERE i.classoid = 'pg_proc'::regclass) AS revoked
FROM pg_proc p
WHERE p.proacl IS NOT NULL AND p.pronamespace = 'pg_catalog'::regnamespace
  AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) a
                  WHERE a.privilege_type = 'EXECUTE' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
UNION ALL
SELECT c.relname::text, 'relation', 'pg_catalog.' || quote_ident(c.relname), true
FROM pg_class c
WHERE c.oid < 16384 AND c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v')
  AND CASE WHEN c.relacl::text ~ '[{,]=[a-z]*r' THEN false ELSE NOT has_table_privilege(c.oid, 'SELECT') END
"""

# A view runs its functions as the role that reads it. Functions that are restricted by default do not matter:
# only restricted views use them.
VIEWS = """
SELECT viewname::text AS name, definition FROM pg_views WHERE schemaname = 'pg_catalog' AND definition ~ %(functions)s
"""

FUNCTION = re.compile(r"\b([a-z]\w+)\s*\(")
RELATION = re.compile(r"\b(pg_\w+)\b(?!\s*[(.])")


class DeniedObjects:
    """The functions and relations of the system catalog that a role may not use. ``rows`` are those of DENIED."""

    def __init__(self, role: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self.role = role
        self.functions: dict[str, list[str]] = {}
        self.relations: dict[str, list[tuple[str, str]]] = {}
        revoked = set()
        for row in rows:
            if row["kind"] == "function":
                self.functions.setdefault(row["name"], []).append(row["denied"])
                if row["revoked"]:
                    revoked.add(row["name"])
            else:
                self.relations.setdefault(row["name"], []).append(("SELECT ON", row["denied"]))
        # Matches the definition of a view that uses a revoked function; null without any.
        self.pattern = r"\m(%s)\(" % "|".join(sorted(revoked)) if revoked else None

    def add_views(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add the views that use a denied function. ``rows`` are those of VIEWS."""
        for row in rows:
            for name in set(FUNCTION.findall(row["definition"])) & set(self.functions):
                denied = [("EXECUTE ON FUNCTION", each) for each in self.functions[name]]
                self.relations.setdefault(row["name"], []).extend(denied)

    def hint(self, sql: str) -> str | None:
        """Return the commands that permit ``sql``, or null if it is permitted."""
        functions = [each for name in FUNCTION.findall(sql) for each in self.functions.get(name, ())]
        wanted = {("EXECUTE ON FUNCTION", each) for each in functions}
        wanted |= {each for name in RELATION.findall(sql) for each in self.relations.get(name, ())}
        commands = []
        for privilege in sorted({privilege for privilege, _denied in wanted}):
            names = ", ".join(sorted(denied for each, denied in wanted if each == privilege))
            commands.append("`%s`" % grant("%s %s" % (privilege, names), self.role))
        return SUPERUSER % " and ".join(commands) if commands else None


def grant(what: str, role: str) -> str:
    """Return the statement that grants ``what`` to ``role``."""
    return "GRANT %s TO %s;" % (what, sql_identifier(role))


def monitoring_hint(role: str, member: bool, version_num: int) -> str:
    """Return the command that gives ``role`` the rights of ``pg_monitor``. A ``member`` lacks only the inheritance."""
    if not member:
        command = grant("pg_monitor", role)
    elif version_num >= 160000:
        command = "GRANT pg_monitor TO %s WITH INHERIT TRUE;" % sql_identifier(role)
    else:
        command = "ALTER ROLE %s INHERIT;" % sql_identifier(role)
    return SUPERUSER % ("`%s`" % command)
