"""The databases of an instance that is not running, for as long as one command needs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moderation import settings
from moderation.embedded import instance as instances
from moderation.embedded.broker import Broker
from moderation.embedded.postgres import Postgres, addresses
from moderation.settings import Settings


@contextmanager
def databases_of(directory: Path) -> Iterator[Settings]:
    """Start PostgreSQL alone in a data directory, a new one too, and stop it at the end.

    Raises:
        EmbeddedError: the instance runs, or the server does not start.
    """
    with instances.hold(directory) as instance:
        instances.ensure_kek(instance)
        with Postgres(instance.postgres, instance.log("postgres")) as postgres:
            for name in (instances.DATABASE, instances.KEYSTORE):
                postgres.create_database(name)
            urls = addresses(postgres, instances.DATABASE, instances.KEYSTORE)
            # Nothing is sent to the broker, which is not started.
            urls["REDIS_URL"] = Broker(instance.broker, instance.log("broker")).url
            environment = instances.child_environment(
                instance, os.environ, urls=urls, workers=1, insecure=False
            )
            yield settings.from_environment(environment)
