"""The rows of docs/privacy.md, one file each; they share the fixtures of the integration tests."""

from __future__ import annotations

from tests.integration.conftest import ann, bob, lead, load

__all__ = ["ann", "bob", "lead", "load"]
