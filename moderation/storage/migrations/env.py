"""Alembic's entry point, always over a connection that `moderation.storage.migrate` opened."""

from __future__ import annotations

import re
from typing import Any, Literal

from alembic import context

from moderation.storage.columns import Ciphertext, Digest

PARTITION = re.compile(r"_(p\d{6}|default)")


def _include(thing: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
    """Partitions are made by `partitions.py` as the months come; comparisons look at their parents."""
    return not (kind == "table" and reflected and PARTITION.search(name or ""))


def _render(kind: str, thing: Any, _autogenerate: Any) -> str | Literal[False]:
    """Migrations outlive our column types: write the plain type that the database sees."""
    return "sa.LargeBinary()" if kind == "type" and isinstance(thing, Ciphertext | Digest) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    include_object=_include,
    render_item=_render,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
