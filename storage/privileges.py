"""What a role of PostgreSQL must be allowed, asked for before it works; one line says what to grant.

Reads PostgreSQL's catalogue alone. Called by storage/database.py before tables are made, by the launcher
before it makes a study and by a worker before its first claim: without DELETE a worker would train a whole
trial, and fail when it writes down the end. docs/roles.sql grants what stands here.
"""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import ARRAY, Connection, String, bindparam, text

from space.errors import AccessError

Needs = Mapping[str, tuple[str, ...]]  # of a table, by its name

READ = ("SELECT",)
ROWS = ("SELECT", "INSERT", "UPDATE")
ALL = (*ROWS, "DELETE")

WORKER: Needs = {
    "search_version": READ,
    "search_studies": ("SELECT", "UPDATE"),  # counts its claims, and is locked
    "search_candidates": ROWS,
    "search_epochs": ALL,  # those of a training that started over are replaced
    "search_late": ROWS,
    "search_rung_trainings": ROWS,
    "search_claims": ALL,
    "search_workers": ALL,
    "search_trainings": ALL,  # a final that is trained again is replaced
}
LAUNCHER: Needs = {
    **WORKER,
    "search_studies": ROWS,
    "search_rung_trainings": ALL,  # what waits by a plan that another one replaces is taken back
}

ROLE = text("SELECT quote_ident(current_user)")
LACKING = text(
    "SELECT needed.privilege, needed.relation FROM unnest(:relations, :privileges)"
    " AS needed (relation, privilege) WHERE to_regclass(needed.relation) IS NOT NULL"
    " AND NOT has_table_privilege(to_regclass(needed.relation), needed.privilege)"
    " ORDER BY needed.relation"
).bindparams(bindparam("relations", type_=ARRAY(String)), bindparam("privileges", type_=ARRAY(String)))
# The numbers of new rows come from sequences that belong to a column, and have privileges of their own.
LOCKED_SEQUENCES = text(
    "SELECT sequences.relname FROM pg_class sequences JOIN pg_depend owned ON owned.objid = sequences.oid"
    " AND owned.classid = 'pg_class'::regclass AND owned.deptype IN ('a', 'i') WHERE"
    " CASE WHEN sequences.relkind = 'S' THEN NOT has_sequence_privilege(sequences.oid, 'USAGE') END"
    " AND owned.refobjid IN (SELECT to_regclass(relation) FROM unnest(:relations) AS needed (relation))"
    " ORDER BY sequences.relname"
).bindparams(bindparam("relations", type_=ARRAY(String)))
SCHEMA = text("SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE')")
OWNER = text(
    "SELECT pg_get_userbyid(relowner), pg_has_role(relowner, 'USAGE') FROM pg_class"
    " WHERE oid = to_regclass(:relation)"
)


def require(connection: Connection, needs: Needs) -> None:
    """Raises AccessError, which names what is to be granted; tables that are not there are left out."""
    if connection.dialect.name != "postgresql":
        return
    pairs = [(relation, privilege) for relation, wanted in needs.items() for privilege in wanted]
    asked = {"relations": [pair[0] for pair in pairs], "privileges": [pair[1] for pair in pairs]}
    lacking = defaultdict[str, list[str]](list)
    for privilege, relation in connection.execute(LACKING, asked):
        lacking[relation].append(privilege)
    grants = defaultdict[str, list[str]](list)
    for relation, privileges in lacking.items():
        grants[", ".join(privileges)].append(relation)
    role = connection.execute(ROLE).scalar_one()
    lines = [f"GRANT {what} ON {', '.join(on)} TO {role}" for what, on in grants.items()]
    filled = [relation for relation, wanted in needs.items() if "INSERT" in wanted]
    sequences = list(connection.execute(LOCKED_SEQUENCES, {"relations": filled}).scalars())
    if sequences:
        lines.append(f"GRANT USAGE ON SEQUENCE {', '.join(sequences)} TO {role}")
    if lines:
        raise AccessError(
            f"role {role} lacks rights in this database: {'; '.join(lines)} (or run docs/roles.sql)"
        )


def require_schema(connection: Connection) -> None:
    """Raises AccessError where the role may use no schema, in which it could see tables."""
    if connection.dialect.name == "postgresql" and connection.execute(SCHEMA).one()[0] is None:
        role = connection.execute(ROLE).scalar_one()
        raise AccessError(
            f"role {role} may use no schema of this database: GRANT USAGE ON SCHEMA public TO {role}"
        )


def require_to_make_tables(connection: Connection, known: str) -> None:
    """Raises AccessError where the role may not make tables or, if the table `known` is there, is not of its
    owner, who alone may change it."""
    if connection.dialect.name != "postgresql":
        return
    require_schema(connection)
    role = connection.execute(ROLE).scalar_one()
    owner = connection.execute(OWNER, {"relation": known}).first()
    if owner is not None and not owner[1]:
        raise AccessError(
            f"the tables are to be updated, and belong to {owner[0]}: role {role} may not change them"
        )
    schema, may = connection.execute(SCHEMA).one()
    if not may:
        raise AccessError(
            f"role {role} may not make tables in schema {schema}, which PostgreSQL 15 and later close to"
            f" everyone but the database's owner: GRANT CREATE ON SCHEMA {schema} TO {role}"
        )
