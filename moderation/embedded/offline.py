"""A stopped instance's databases, started for as long as somebody has to look into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moderation.embedded import instance as instances
from moderation.embedded.postgres import Postgres


@contextmanager
def environment(directory: Path) -> Iterator[dict[str, str]]:
    """The variables of the instance in `directory`, with its PostgreSQL running.

    One that runs is used as it is. Of one that does not only the database is started, and stopped at the end;
    nobody else can start the instance meanwhile.

    Raises:
        EmbeddedError: there is no instance, it is another user's, or its server does not start.
    """
    variables = instances.read_environment(directory)
    if instances.is_running(directory):
        yield variables
        return
    with (
        instances.hold(directory) as instance,
        Postgres(instance.postgres, instance.log("postgres")) as server,
    ):
        # As the owner: the instance may be from before there was another role.
        content, keystore = server.url(instances.DATABASE), server.url(instances.KEYSTORE)
        urls = {"DATABASE_URL": content, "KEYSTORE_URL": keystore}
        urls |= {"OWNER_DATABASE_URL": content, "OWNER_KEYSTORE_URL": keystore}
        yield variables | {f"MODERATION_{name}": url for name, url in urls.items()}
