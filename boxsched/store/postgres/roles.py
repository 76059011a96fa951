"""Least privilege: the exact rights of a service's role and of a reading role.

There are three kinds of roles. The *owner* of the tables is the only one who changes the schema
(``boxsched db upgrade``). The *service's* role reads and writes rows, but can only add to the
history. *Readers* see everything except secrets. The administrator creates the roles; this module
grants rights to them.
"""

from collections.abc import Iterable, Iterator, Mapping

import attrs
from psycopg2.sql import SQL, Composable, Identifier

from boxsched.errors import Invalid
from boxsched.store.blocks import load
from boxsched.store.errors import RightMissing
from boxsched.store.postgres.session import PostgresSession
from boxsched.store.tables import TABLES, VIEWS

_ASK = load("operating_postgres.sql")

_WRITES = ("SELECT", "INSERT", "UPDATE", "DELETE")
_PRIVILEGES = (*_WRITES, "TRUNCATE", "REFERENCES", "TRIGGER")
# A service's rights on tables for which it does not need all four rights.
_SERVICE: Mapping[str, tuple[str, ...]] = {
    "meta": ("SELECT",),
    "event": ("SELECT", "INSERT"),
    "leadership": ("SELECT", "INSERT"),
    "lineage": ("SELECT", "INSERT"),
    "shown_workload": ("SELECT",),
    "workload_shown": ("SELECT",),
    "workload_row": ("SELECT",),
    "workload_full": ("SELECT",),
    "workload_whole": ("SELECT",),
    "workload_complete": ("SELECT",),
}
SECRETS: Mapping[str, frozenset[str]] = {
    "project": frozenset({"webhook_secret", "webhook_secret_before", "git_credentials"}),
    "secret": frozenset({"sealed"}),
    "token": frozenset({"digest"}),
    "page_session": frozenset({"digest"}),
}
FUNCTIONS = ("exact(double precision)",)
SERVICE_FUNCTIONS = ("forget_events(bigint, bigint)",)  # deletes old events as the tables' owner
WORKLOAD_IDS = "workload_id"


@attrs.frozen
class Rights:
    """The differences between a role's rights and the intended ones."""

    role: str
    purpose: str  # owner | service | reader
    missing: tuple[str, ...]
    surplus: tuple[str, ...]


def sequences(session: PostgresSession, table: str) -> list[str]:
    """Return the names of the sequences that number the table's rows."""
    return [name for (name,) in session.ask(_ASK["sequences"](table=table))]


def all_sequences(session: PostgresSession) -> list[str]:
    """Return the sequences of all tables, and the one for workloads."""
    return [*(name for table in TABLES for name in sequences(session, table)), WORKLOAD_IDS]


def columns(session: PostgresSession, table: str) -> dict[str, str]:
    """Return the table's columns with their types."""
    return dict(session.ask(_ASK["columns"](table=table)))


def granted(session: PostgresSession) -> list[tuple[str, bool]]:
    """Return the roles with earlier grants, and whether each only reads."""
    roles = [role for (role,) in session.ask(_ASK["grantees"]())]
    return [(role, _only_reads(session, role)) for role in roles]


def grants(session: PostgresSession, role: str, *, reads: bool) -> list[Composable]:
    """Return the statements that grant a role what it needs and revoke everything else.

    Raises Invalid if the role does not exist, or if rights do not limit it.
    """
    _refuse_unfit(session, role)
    database, schema, _, _ = _place(session)
    whom = Identifier(role)
    statements: list[Composable] = [
        SQL("GRANT CONNECT ON DATABASE {} TO {}").format(Identifier(database), whom),
        SQL("GRANT USAGE ON SCHEMA {} TO {}").format(Identifier(schema), whom),
    ]
    for place in (*TABLES, *VIEWS):
        table = Identifier(schema, place)
        statements.append(SQL("REVOKE ALL ON {} FROM {}").format(table, whom))
        rights = SQL(", ").join(_rights(session, place, reads=reads))
        statements.append(SQL("GRANT {} ON {} TO {}").format(rights, table, whom))
    for sequence in all_sequences(session):
        name = SQL(sequence)  # from the catalog, which quotes it if necessary
        statements.append(SQL("REVOKE ALL ON SEQUENCE {} FROM {}").format(name, whom))
        if not reads:
            statements.append(SQL("GRANT USAGE ON SEQUENCE {} TO {}").format(name, whom))
    for function in FUNCTIONS if reads else (*FUNCTIONS, *SERVICE_FUNCTIONS):
        statements.append(SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(SQL(function), whom))
    return statements


def grant(session: PostgresSession, role: str, *, reads: bool) -> Rights:
    """Grant, then check: PostgreSQL only warns when the granting role may not grant."""
    for statement in grants(session, role, reads=reads):
        session.say(statement)
    found = rights(session, role, reads=reads)
    if found.missing:
        raise RightMissing(
            f"could not grant {', '.join(found.missing)} to {role}: "
            "run boxsched db upgrade as the owner of the tables"
        )
    return found


def rights(session: PostgresSession, role: str, *, reads: bool = False) -> Rights:
    """Return which rights a role lacks for its purpose, and which are superfluous."""
    wanted = {(place, "SELECT") for place in TABLES} if reads else set(_service_rights())
    asked = [(place, privilege) for place in TABLES for privilege in _PRIVILEGES]
    held = _held(session, role, asked)
    surplus = held - wanted
    if reads:
        rows = [(place,) for place in TABLES]
        held |= {(p, "SELECT") for (p,) in session.ask(_ASK["readable"].rows(rows, role=role))}
        surplus |= {(place, "SELECT") for place in SECRETS} & _held(
            session, role, [(place, "SELECT") for place in SECRETS]
        )
    more = []
    _, schema, _, _ = _place(session)
    if session.ask(_ASK["may_create"](role=role, schema=schema)) == [(True,)]:
        more.append(f"CREATE in {schema}")
    return Rights(
        role,
        "reader" if reads else "service",
        tuple(_named(wanted - held)),
        (*_named(surplus), *more),
    )


def my_rights(session: PostgresSession) -> Rights:
    "Return the rights of the session's role; a role that can add to the history is a service's."
    ((me,),) = session.ask(_ASK["me"]())
    _, _, _, is_owner = _place(session)
    if is_owner:
        return Rights(me, "owner", (), ())
    return rights(session, me, reads=_only_reads(session, me))


def _rights(session: PostgresSession, place: str, *, reads: bool) -> Iterable[Composable]:
    if not reads:
        return [SQL(right) for right in _SERVICE.get(place, _WRITES)]
    if place not in SECRETS:
        return [SQL("SELECT")]
    open_ = [name for name in columns(session, place) if name not in SECRETS[place]]
    return [SQL("SELECT ({})").format(SQL(", ").join(map(Identifier, open_)))]


def _service_rights() -> Iterator[tuple[str, str]]:
    for table in TABLES:
        for right in _SERVICE.get(table, _WRITES):
            yield table, right


def _only_reads(session: PostgresSession, role: str) -> bool:
    return not _held(session, role, [("event", "INSERT")])


def _held(
    session: PostgresSession, role: str, asked: list[tuple[str, str]]
) -> set[tuple[str, str]]:
    return {(place, right) for place, right in session.ask(_ASK["held"].rows(asked, role=role))}


def _place(session: PostgresSession) -> tuple[str, str, str, bool]:
    """(database, schema, owner, whether the session may do what the owner may)."""
    ((database, schema, owner, mine),) = session.ask(_ASK["place"]())
    return database, schema, owner, mine


def _refuse_unfit(session: PostgresSession, role: str) -> None:
    found = session.ask(_ASK["role"](role=role))
    if not found:
        name = Identifier(role).as_string(session.raw)
        raise Invalid(
            f"there is no role {role}; the database's administrator can create it: "
            f"CREATE ROLE {name} LOGIN PASSWORD '...'"
        )
    _, _, owner, _ = _place(session)
    if found[0][0] or role == owner:
        what = "a superuser" if found[0][0] else "the owner of the tables"
        raise Invalid(f"{role} is {what}: rights do not limit it; give the service another role")


def _named(rights: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{right} on {place}" for place, right in sorted(rights)]
