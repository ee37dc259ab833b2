# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The queries that list the contents of a database, for PostgreSQL 13 to 18. Private to this collection.

Each returns the columns ``item`` (a unique text) and ``value`` (JSON). Expressions are listed by their presence, not by
their text: the server prints some of them differently after a dump and a restore. Columns that only some versions have
are read by ``to_jsonb(row) ->> 'column'``, which is null elsewhere.
"""

from __future__ import annotations

# Oids below are those of initdb. The schema public is one of them.
FIRST_USER_OID = 16384

# Names with their schema, and values as the same text in every session.
SETTINGS = """
SET LOCAL search_path = pg_catalog; SET LOCAL jit = off; SET LOCAL row_security = off; SET LOCAL lock_timeout = 0;
SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL timezone = 'UTC';
SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL lc_monetary = 'C';
SET LOCAL xmlbinary = 'base64'; SET LOCAL idle_in_transaction_session_timeout = 0
"""

MEMBER = "EXISTS (SELECT FROM pg_depend e WHERE e.classid = '%s'::regclass AND e.objid = %s AND e.deptype = 'e')"
USER_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


def _own(catalog: str, oid: str) -> str:
    """Return the condition for an object that is neither of initdb nor of an extension."""
    return "%s >= %d AND NOT %s" % (oid, FIRST_USER_OID, MEMBER % (catalog, oid))


def _sorted(array: str) -> str:
    return "(SELECT coalesce(array_agg(s::text ORDER BY s::text COLLATE \"C\"), '{}') FROM unnest(%s) s)" % array


# Relations whose columns, constraints and so on are listed.
RELATIONS = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE %s AND %s AND c.relkind IN (%s)"
OF_TABLES = RELATIONS % (USER_SCHEMA, _own("pg_class", "c.oid"), "'r', 'p', 'f', 'v', 'm'")
WITH_COLUMNS = RELATIONS % (USER_SCHEMA, _own("pg_class", "c.oid"), "'r', 'p', 'f', 'v', 'm', 'c'")

# catalog, oid, owner, acl (or null), the letter of acldefault().
CATALOGS = (
    ("pg_namespace", "nspowner", "nspacl", "'n'", "o.nspname !~ '^pg_' AND o.nspname <> 'information_schema'"),
    (
        "pg_class",
        "relowner",
        "relacl",
        "CASE relkind WHEN 'S' THEN 's' ELSE 'r' END",
        "relkind IN ('r','p','f','v','m','S')",
    ),
    ("pg_proc", "proowner", "proacl", "'f'", "true"),
    (
        "pg_type",
        "typowner",
        "typacl",
        "'T'",
        "typtype IN ('b','d','e','r','c') AND (typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = typrelid"
        " AND c.relkind = 'c')) AND NOT EXISTS (SELECT FROM pg_type t WHERE t.typarray = o.oid)",
    ),
    ("pg_language", "lanowner", "lanacl", "'l'", "true"),
    ("pg_foreign_data_wrapper", "fdwowner", "fdwacl", "'F'", "true"),
    ("pg_foreign_server", "srvowner", "srvacl", "'S'", "true"),
    ("pg_operator", "oprowner", None, None, "true"),
    ("pg_opclass", "opcowner", None, None, "true"),
    ("pg_opfamily", "opfowner", None, None, "true"),
    ("pg_collation", "collowner", None, None, "true"),
    ("pg_conversion", "conowner", None, None, "true"),
    ("pg_ts_config", "cfgowner", None, None, "true"),
    ("pg_ts_dict", "dictowner", None, None, "true"),
    ("pg_statistic_ext", "stxowner", None, None, "true"),
    ("pg_event_trigger", "evtowner", None, None, "true"),
    ("pg_publication", "pubowner", None, None, "true"),
    ("pg_ts_parser", None, None, None, "true"),
    ("pg_ts_template", None, None, None, "true"),
    ("pg_cast", None, None, None, "true"),
    ("pg_transform", None, None, None, "true"),
    ("pg_am", None, None, None, "true"),
)


def _objects() -> str:
    """Return the query for all objects with their owners and privileges.

    An object of initdb or of an extension is listed if its privileges are not those that it was created with.
    """
    parts = []
    for catalog, owner, acl, letter, condition in CATALOGS:
        default = 'acldefault(%s::"char", %s)' % (letter, owner) if acl else "NULL::aclitem[]"
        privileges = "coalesce(%s, %s)" % (acl, default) if acl else "NULL::aclitem[]"
        initial = "coalesce((SELECT p.initprivs FROM pg_init_privs p WHERE p.classoid = o.tableoid AND p.objoid = o.oid"
        initial += " AND p.objsubid = 0), %s)" % default
        own = "o.oid >= %d AND NOT %s" % (FIRST_USER_OID, MEMBER % (catalog, "o.oid"))
        if catalog == "pg_namespace":
            own = "(%s OR o.nspname = 'public')" % own
        changed = "%s IS NOT NULL AND %s <> %s" % (acl, _sorted(privileges), _sorted(initial)) if acl else "false"
        parts.append(
            "SELECT o.tableoid AS class, o.oid, %s AS owner, %s AS acl, %s AS own FROM %s o WHERE (%s AND %s) OR (%s)"
            % (owner or "0::oid", privileges, own, catalog, own, condition, changed)
        )
    return """
SELECT i.type || ' ' || i.identity AS item,
       jsonb_build_object('owner', CASE WHEN own AND owner <> 0 THEN pg_get_userbyid(owner) END,
                          'acl', CASE WHEN acl IS NOT NULL THEN %s END) AS value
FROM (%s) o, pg_identify_object(o.class, o.oid, 0) i
""" % (_sorted("acl"), " UNION ALL ".join(parts))


QUERIES = {
    "objects": _objects(),
    "relations": """
SELECT c.oid::regclass::text AS item, jsonb_build_object(
    'kind', c.relkind, 'persistence', c.relpersistence, 'row_security', c.relrowsecurity,
    'forced_row_security', c.relforcerowsecurity, 'replica_identity', c.relreplident, 'populated', c.relispopulated,
    'options', %s, 'toast_options', (SELECT %s FROM pg_class t WHERE t.oid = c.reltoastrelid),
    'access_method', (SELECT amname FROM pg_am WHERE pg_am.oid = c.relam AND c.relkind IN ('r', 'm')),
    'of_type', CASE WHEN c.reloftype <> 0 THEN c.reloftype::regtype::text END,
    'partition_strategy', (SELECT partstrat FROM pg_partitioned_table p WHERE p.partrelid = c.oid),
    'partition_bound', pg_get_expr(c.relpartbound, c.oid),
    'parents', (SELECT array_agg(inhparent::regclass::text ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid)
) AS value
"""
    % (_sorted("c.reloptions"), _sorted("t.reloptions"))
    + WITH_COLUMNS,
    "columns": """
SELECT c.oid::regclass || '.' || quote_ident(attname) AS item, to_jsonb(concat_ws(', ',
    format_type(atttypid, atttypmod),
    CASE WHEN attcollation <> 0 AND attcollation <> t.typcollation THEN 'collation ' || attcollation::regcollation END,
    CASE WHEN attnotnull THEN 'not null' END, CASE WHEN atthasdef THEN 'default' END,
    CASE WHEN attidentity <> '' THEN 'identity ' || attidentity::text END,
    CASE WHEN attgenerated <> '' THEN 'generated ' || attgenerated::text END,
    CASE WHEN attstorage <> t.typstorage THEN 'storage ' || attstorage::text END,
    'compression ' || nullif(to_jsonb(a) ->> 'attcompression', ''),
    'statistics ' || nullif(attstattarget, -1),
    'options ' || %s::text,
    'foreign options ' || md5(%s::text),
    'privileges ' || %s::text)) AS value
FROM pg_attribute a JOIN pg_type t ON t.oid = atttypid JOIN pg_class c ON c.oid = attrelid
WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT c.oid %s)
"""
    % (
        # PostgreSQL 17.12 notes a version of its own there, which a restored table does not share.
        "nullif(%s, '{}')" % _sorted("ARRAY(SELECT a FROM unnest(attoptions) a WHERE a !~ '^pg_')"),
        "CASE WHEN attfdwoptions IS NOT NULL THEN %s END" % _sorted("attfdwoptions"),
        "CASE WHEN attacl IS NOT NULL AND attacl <> '{}' THEN %s END" % _sorted("attacl"),
        WITH_COLUMNS,
    ),
    # Not-null constraints have rows of their own in some versions: they are listed with the columns.
    "constraints": """
SELECT quote_ident(conname) || ' on ' || CASE WHEN conrelid <> 0 THEN conrelid::regclass::text
                                              ELSE contypid::regtype::text END AS item,
       jsonb_build_object('type', contype, 'validated', convalidated, 'deferrable', condeferrable,
           'deferred', condeferred, 'local', conislocal, 'no_inherit', connoinherit,
           'not_enforced', to_jsonb(k) ->> 'conenforced' = 'false',
           'columns', (SELECT array_agg(attname ORDER BY o) FROM unnest(conkey) WITH ORDINALITY u (n, o)
                       JOIN pg_attribute ON attrelid = conrelid AND attnum = u.n),
           'references', CASE WHEN confrelid <> 0 THEN confrelid::regclass::text END,
           'referenced', (SELECT array_agg(attname ORDER BY o) FROM unnest(confkey) WITH ORDINALITY u (n, o)
                          JOIN pg_attribute ON attrelid = confrelid AND attnum = u.n),
           'actions', concat(confupdtype, confdeltype, confmatchtype)) AS value
FROM pg_constraint k JOIN pg_namespace n ON n.oid = connamespace
WHERE contype NOT IN ('n', 't') AND (conrelid IN (SELECT c.oid %s) OR (contypid <> 0 AND %s AND %s))
"""
    % (OF_TABLES, USER_SCHEMA, _own("pg_type", "contypid")),
    "indexes": """
SELECT x.indexrelid::regclass::text AS item,
       jsonb_build_object('table', x.indrelid::regclass::text, 'method', amname, 'unique', indisunique,
           'primary', indisprimary, 'valid', indisvalid, 'clustered', indisclustered,
           'replica_identity', indisreplident, 'exclusion', indisexclusion, 'immediate', indimmediate,
           'partial', indpred IS NOT NULL, 'nulls_not_distinct', to_jsonb(x) ->> 'indnullsnotdistinct' = 'true',
           'key_columns', indnkeyatts, 'options', %s, 'order', indoption::text,
           'columns', (SELECT array_agg(coalesce(attname, '(expression)') ORDER BY o)
                       FROM unnest(indkey::int2[]) WITH ORDINALITY u (n, o)
                       LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = u.n AND u.n <> 0),
           'classes', (SELECT array_agg(opcname ORDER BY o) FROM unnest(indclass::oid[]) WITH ORDINALITY u (n, o)
                       JOIN pg_opclass ON pg_opclass.oid = u.n)) AS value
FROM pg_index x JOIN pg_class r ON r.oid = x.indexrelid JOIN pg_am ON pg_am.oid = r.relam
WHERE x.indrelid IN (SELECT c.oid %s)
"""
    % (_sorted("r.reloptions"), OF_TABLES),
    # The triggers of partitions are copies of those of the partitioned table.
    "triggers": """
SELECT quote_ident(tgname) || ' on ' || tgrelid::regclass AS item,
       jsonb_build_object('enabled', tgenabled, 'type', tgtype, 'function', tgfoid::regprocedure::text,
           'conditional', tgqual IS NOT NULL, 'deferrable', tgdeferrable, 'deferred', tginitdeferred,
           'columns', cardinality(tgattr::int2[]), 'arguments', md5(encode(tgargs, 'hex'))) AS value
FROM pg_trigger t
WHERE NOT tgisinternal AND coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0' AND tgrelid IN (SELECT c.oid %s)
"""
    % OF_TABLES,
    "policies": """
SELECT quote_ident(polname) || ' on ' || polrelid::regclass AS item,
       jsonb_build_object('command', polcmd, 'permissive', polpermissive, 'using', polqual IS NOT NULL,
           'check', polwithcheck IS NOT NULL,
           'roles', (SELECT array_agg(CASE r WHEN 0 THEN 'public' ELSE pg_get_userbyid(r) END ORDER BY r = 0,
                     pg_get_userbyid(r)) FROM unnest(polroles) r)) AS value
FROM pg_policy WHERE polrelid IN (SELECT c.oid %s)
"""
    % OF_TABLES,
    "rules": """
SELECT quote_ident(rulename) || ' on ' || ev_class::regclass AS item,
       jsonb_build_object('event', ev_type, 'enabled', ev_enabled, 'instead', is_instead) AS value
FROM pg_rewrite WHERE ev_class IN (SELECT c.oid %s)
"""
    % OF_TABLES,
    "functions": """
SELECT p.oid::regprocedure::text AS item,
       jsonb_build_object('kind', prokind, 'language', lanname, 'volatility', provolatile, 'strict', proisstrict,
           'security_definer', prosecdef, 'leakproof', proleakproof, 'parallel', proparallel, 'cost', procost,
           'rows', prorows, 'returns', prorettype::regtype::text, 'set', proretset, 'settings', %s,
           'source', md5(prosrc), 'parsed_body', to_jsonb(p) ->> 'prosqlbody' IS NOT NULL) AS value
FROM pg_proc p JOIN pg_language l ON l.oid = prolang JOIN pg_namespace n ON n.oid = pronamespace WHERE %s AND %s
"""
    % (_sorted("proconfig"), USER_SCHEMA, _own("pg_proc", "p.oid")),
    "types": """
SELECT t.oid::regtype::text AS item,
       jsonb_build_object('type', typtype, 'not_null', typnotnull, 'default', typdefault IS NOT NULL,
           'base', CASE WHEN typbasetype <> 0 THEN format_type(typbasetype, typtypmod) END,
           'labels', (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid),
           'subtype', (SELECT rngsubtype::regtype::text FROM pg_range WHERE rngtypid = t.oid)) AS value
FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE typtype IN ('b', 'd', 'e', 'r') AND %s AND %s
    AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
"""
    % (USER_SCHEMA, _own("pg_type", "t.oid")),
    "extensions": """
SELECT extname AS item, jsonb_build_object('version', extversion, 'schema', extnamespace::regnamespace::text) AS value
FROM pg_extension
""",
    "publications": """
SELECT quote_ident(pubname) AS item,
       jsonb_build_object('all_tables', puballtables, 'operations',
           concat(pubinsert::int, pubupdate::int, pubdelete::int, pubtruncate::int), 'via_root', pubviaroot,
           'tables', (SELECT array_agg(prrelid::regclass || CASE WHEN to_jsonb(r) ->> 'prqual' IS NOT NULL
                          THEN ' where' ELSE '' END || coalesce(' ' || (to_jsonb(r) ->> 'prattrs'), '')
                          ORDER BY prrelid::regclass::text COLLATE "C")
                      FROM pg_publication_rel r WHERE prpubid = p.oid)) AS value
FROM pg_publication p
""",
    "subscriptions": """
SELECT quote_ident(subname) AS item, jsonb_build_object('slot', subslotname, 'publications', subpublications) AS value
FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
""",
    "default_privileges": """
SELECT 'for ' || pg_get_userbyid(defaclrole) || CASE WHEN defaclnamespace <> 0
           THEN ' in ' || defaclnamespace::regnamespace ELSE '' END || ' on ' || defaclobjtype::text AS item,
       to_jsonb(%s) AS value FROM pg_default_acl
"""
    % _sorted("defaclacl"),
    "settings": """
SELECT CASE setrole WHEN 0 THEN '' ELSE pg_get_userbyid(setrole) END AS item, to_jsonb(%s) AS value
FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
    % _sorted("setconfig"),
    # Comments on objects of extensions are not dumped. Those on large objects are counted with them.
    "comments": """
SELECT i.type || ' ' || i.identity AS item, to_jsonb(md5(description)) AS value
FROM pg_description d, pg_identify_object(classoid, objoid, objsubid) i
WHERE (objoid >= %d OR (objoid = 'public'::regnamespace AND description <> 'standard public schema'))
    AND classoid <> 'pg_largeobject'::regclass
    AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = classoid AND e.objid = objoid AND e.deptype = 'e')
"""
    % FIRST_USER_OID,
    "security_labels": """
SELECT i.type || ' ' || i.identity || ' by ' || provider AS item, to_jsonb(label) AS value
FROM pg_seclabel, pg_identify_object(classoid, objoid, objsubid) i WHERE classoid <> 'pg_largeobject'::regclass
""",
    "event_triggers": """
SELECT quote_ident(evtname) AS item, jsonb_build_object('event', evtevent, 'enabled', evtenabled,
    'function', evtfoid::regprocedure::text, 'tags', evttags) AS value
FROM pg_event_trigger WHERE %s
"""
    % _own("pg_event_trigger", "pg_event_trigger.oid"),
    "statistics": """
SELECT quote_ident(nspname) || '.' || quote_ident(stxname) AS item,
       jsonb_build_object('table', stxrelid::regclass::text, 'kinds', stxkind, 'columns', cardinality(stxkeys::int2[]),
           'target', nullif(stxstattarget, -1)) AS value
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = stxnamespace WHERE %s
"""
    % _own("pg_statistic_ext", "s.oid"),
    "text_search": """
SELECT mapcfg::regconfig::text AS item, to_jsonb(md5(string_agg(concat(maptokentype, ' ', mapseqno, ' ',
    mapdict::regdictionary), ';' ORDER BY maptokentype, mapseqno))) AS value
FROM pg_ts_config_map WHERE %s GROUP BY mapcfg
"""
    % _own("pg_ts_config", "mapcfg"),
    # Options hold passwords, so only their checksums are listed.
    "foreign": """
SELECT 'server ' || quote_ident(srvname) AS item, jsonb_build_object('type', srvtype, 'version', srvversion,
    'options', md5(%s::text)) AS value FROM pg_foreign_server s WHERE %s
UNION ALL SELECT 'wrapper ' || quote_ident(fdwname), jsonb_build_object('options', md5(%s::text))
FROM pg_foreign_data_wrapper w WHERE %s
UNION ALL SELECT 'table ' || ftrelid::regclass, jsonb_build_object('server', quote_ident(s.srvname),
    'options', md5(%s::text)) FROM pg_foreign_table JOIN pg_foreign_server s ON s.oid = ftserver
UNION ALL SELECT 'mapping of ' || quote_ident(usename) || ' on ' || quote_ident(srvname),
    jsonb_build_object('options', md5(%s::text)) FROM pg_user_mappings
"""
    % (
        _sorted("srvoptions"),
        _own("pg_foreign_server", "s.oid"),
        _sorted("fdwoptions"),
        _own("pg_foreign_data_wrapper", "w.oid"),
        _sorted("ftoptions"),
        _sorted("umoptions"),
    ),
    "tablespaces": """
SELECT c.oid::regclass::text AS item, to_jsonb(spcname) AS value
FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE c.oid >= %d AND c.relkind <> 't'
UNION ALL SELECT '', to_jsonb(spcname) FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
WHERE datname = current_database() AND spcname <> 'pg_default'
"""
    % FIRST_USER_OID,
    # Compared by what the operating system has: a restore sorts anew.
    "collation_versions": """
SELECT c.oid::regcollation::text AS item, to_jsonb(pg_collation_actual_version(c.oid)) AS value
FROM pg_collation c WHERE %s AND pg_collation_actual_version(c.oid) IS NOT NULL
"""
    % _own("pg_collation", "c.oid"),
}

# From PostgreSQL 15 on.
PUBLISHED_SCHEMAS = """
SELECT quote_ident(pubname) AS item, to_jsonb(array_agg(pnnspid::regnamespace::text ORDER BY 1)) AS value
FROM pg_publication_namespace JOIN pg_publication p ON p.oid = pnpubid GROUP BY pubname
"""

DATABASE = """
SELECT to_jsonb(d) - 'datacl' || jsonb_build_object('owner', pg_get_userbyid(datdba),
           'encoding_name', pg_encoding_to_char(encoding), 'acl', %s,
           'comment', shobj_description(d.oid, 'pg_database')) AS value
FROM pg_database d WHERE datname = current_database()
""" % _sorted("coalesce(datacl, acldefault('d', datdba))")

# From PostgreSQL 15 on.
COLLATION_VERSION = """
SELECT pg_database_collation_actual_version(oid) AS version FROM pg_database WHERE datname = current_database()
"""

# Roles that the contents name. The first superuser is not in pg_shdepend.
ROLES = """
SELECT rolname AS item, to_jsonb(rolsuper) AS value FROM pg_roles WHERE oid IN (
    SELECT 10 UNION SELECT refobjid FROM pg_shdepend s JOIN pg_database d ON datname = current_database()
    WHERE refclassid = 'pg_authid'::regclass
        AND (s.dbid = d.oid OR (s.classid = 'pg_database'::regclass AND objid = d.oid))
    UNION SELECT datdba FROM pg_database WHERE datname = current_database()
    UNION SELECT setrole FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
    WHERE datname = current_database())
"""

# Tables with rows of their own. Of a table of an extension, only the rows that its script marks are dumped.
COUNTED = """
SELECT c.oid::regclass::text AS name, NULL AS condition %s
UNION ALL
SELECT u.oid::regclass::text, coalesce(nullif(x.extcondition[u.o], ''), 'WHERE true')
FROM pg_extension x, unnest(x.extconfig) WITH ORDINALITY u (oid, o) JOIN pg_class c ON c.oid = u.oid
WHERE c.relkind = 'r'
ORDER BY 1
""" % (RELATIONS % (USER_SCHEMA, _own("pg_class", "c.oid"), "'r'"))

# The sequence of a serial column of an extension is not dumped.
SEQUENCES = """
SELECT c.oid::regclass::text AS name, seqincrement AS increment, seqmin AS least, seqmax AS most, seqcycle AS cycle,
       seqtypid::regtype::text AS type, seqstart AS start, seqcache AS cache,
       (SELECT refobjid::regclass || '.' || quote_ident(attname) FROM pg_depend d
        JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
        AND deptype IN ('a', 'i') AND refobjsubid > 0 LIMIT 1) AS owned_by
FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND %s AND %s ORDER BY 1
""" % (USER_SCHEMA, _own("pg_class", "c.oid"))

LARGE_OBJECTS = """
SELECT count(*) AS count, md5(coalesce(string_agg(oid || ' ' || pg_get_userbyid(lomowner) || ' ' || %s::text, ';'
       ORDER BY oid), '')) AS privileges,
       (SELECT md5(coalesce(string_agg(objoid || ' ' || description, ';' ORDER BY objoid), '')) FROM pg_description
        WHERE classoid = 'pg_largeobject'::regclass) AS comments
FROM pg_largeobject_metadata
""" % _sorted("coalesce(lomacl, acldefault('L', lomowner))")
LARGE_OBJECT_DATA = """
SELECT coalesce(sum(length(data)), 0)::int8 AS bytes, %s AS hash FROM pg_largeobject
"""
# Of each row a number; their sum does not depend on the order.
LARGE_OBJECT_HASH = (
    "coalesce(sum(('x' || left(md5(loid || ' ' || pageno || ' ' || md5(data)), 16))::bit(64)::int8::numeric), 0)::text"
)
ROW_HASH = "coalesce(sum(('x' || left(md5((tracktion_row.*)::text), 16))::bit(64)::int8::numeric), 0)::text"
