"""The pages beside the queue, for the application to include."""

from __future__ import annotations

from api.console.routes import appeals, audit, authors, banks, dashboard, items, policy, quality

ROUTERS = (
    dashboard.router,
    items.router,
    authors.router,
    appeals.router,
    banks.router,
    policy.router,
    audit.router,
    quality.router,
)
