"""The servers of one machine: PostgreSQL and Valkey from wheels, and what keeps all of it alive.

Nothing here is imported by the API, the relay or the workers: they are pointed at servers by their
environment, and can't tell these from any other.
"""

from moderation.embedded.broker import Broker
from moderation.embedded.postgres import Postgres
from moderation.embedded.process import EmbeddedError

__all__ = ["Broker", "EmbeddedError", "Postgres"]
