"""What the running application may do in its databases, which belong to an owner that it is not.

The API, the relay and the workers connect as a role that reads and writes rows, and does neither to what is on
record for good. It owns nothing, so it can't alter a table, disable a trigger or truncate; monthly partitions are
reached through their parents, and made and dropped by functions of the owner.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import Connection as Driver
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, make_url, text

from moderation.domain.errors import Conflict

EVERYTHING = "SELECT, INSERT, UPDATE, DELETE"
# Rows that are added and never changed; of an audit event the tree's columns alone are filled in later.
NARROWER = {
    "audit_events": "SELECT, INSERT, UPDATE (leaf_index, commitment, salt)",
    "audit_tiles": "SELECT, INSERT",
    "audit_checkpoints": "SELECT, INSERT",
    "policies": "SELECT, INSERT",
    "alembic_version": "SELECT",
}
FUNCTIONS = ("ensure_partition(text, date)", "drop_partition(text, date)")


def grant(connection: Connection, tables: Iterable[str], application_url: str) -> None:
    """Give the role of `application_url` what it needs in this database and nothing else. Idempotent.

    The role is created where there is none. Where the application connects as the owner nothing happens: that
    works, and `moderation doctor` says what is missing then.

    Raises:
        Conflict: the role is missing and the owner may not create it.
    """
    url = make_url(application_url)
    owner = connection.scalar(text("SELECT current_user"))
    if url.username is None or url.username == owner:
        return
    driver = connection.connection.driver_connection
    assert isinstance(driver, Driver)
    if (
        connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": url.username})
        is None
    ):
        _create(driver, url.username, str(url.password) if url.password else None)
    schema = str(connection.scalar(text("SELECT current_schema()")))
    for statement in _grants(url.username, schema, [*tables, "alembic_version"]):
        driver.execute(statement)
    for name in FUNCTIONS:
        if connection.scalar(text("SELECT to_regprocedure(:name)"), {"name": name}) is not None:
            allowed = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}")
            driver.execute(allowed.format(sql.SQL(name), sql.Identifier(url.username)))


def is_owner(connection: Connection) -> bool:
    """Whether this connection may do more than the application should: it owns a table, or is a superuser."""
    return bool(
        connection.scalar(
            text(
                "SELECT rolsuper OR EXISTS (SELECT FROM pg_class "
                "WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') "
                "AND pg_has_role(current_user, relowner, 'MEMBER')) "
                "FROM pg_roles WHERE rolname = current_user"
            )
        )
    )


def _create(driver: Driver[object], role: str, password: str | None) -> None:
    statement = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role))
    if password:
        # Only its verifier is sent: a statement can end up in a log.
        verifier = driver.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        statement += sql.SQL(" PASSWORD {}").format(sql.Literal(verifier))
    try:
        driver.execute(statement)
    except InsufficientPrivilege as error:
        raise Conflict(
            f"The role {role} does not exist and the owner may not create it. As an administrator of the server "
            f"run: CREATE ROLE {role} LOGIN PASSWORD '…'; then run this again (docs/operations.md)."
        ) from error


def _grants(role: str, schema: str, tables: Iterable[str]) -> list[sql.Composed]:
    who, where = sql.Identifier(role), sql.Identifier(schema)
    whole = [
        "GRANT USAGE ON SCHEMA {} TO {}",
        "REVOKE CREATE ON SCHEMA {} FROM {}",
        "REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM {}",
    ]
    each = sql.SQL("GRANT {} ON {}.{} TO {}")
    return [sql.SQL(statement).format(where, who) for statement in whole] + [
        each.format(sql.SQL(NARROWER.get(table, EVERYTHING)), where, sql.Identifier(table), who)
        for table in tables
    ]
