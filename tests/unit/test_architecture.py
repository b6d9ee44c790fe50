"""The rules of `docs/conventions.md` that no linter knows, checked over the whole repository."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from importlinter.cli import lint_imports
from starlette.routing import Route

from api import problems
from api.app import create_app
from moderation.domain import errors
from moderation.domain.access import Permission
from moderation.governance.accounts import Scope
from moderation.governance.partners import Right
from moderation.settings import Settings

ROOT = Path(__file__).parent.parent.parent
CODE = ("moderation", "models", "api", "training", "benchmarks")
LONGEST = 60
LONGEST_OF_TESTS = 80

# Whoever can reach the port may ask for these; each is here on purpose.
PUBLIC = {"/livez", "/readyz", "/metrics", "/openapi.json"}
# The door to the console, and what its page is drawn with and reports to: before anybody is somebody.
DOOR = {
    "/console",  # leads to /console/, which asks
    "/v1/sessions",
    "/console/login",
    "/console/second-factor",
    "/console/second-factor/passkey",
    "/console/join/{token}",
    "/console/oidc",
    "/console/oidc/callback",
    "/console/static/{version}/{name:path}",
    "/console/csp-reports",
}

TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".json",
    ".sh",
    ".mako",
    ".cfg",
    ".ini",
    ".txt",
    ".example",
    "",
}
ABSOLUTE = re.compile(r"(?<![\w.$}~/*-])/(?:work|tmp|root|home|Users|mnt|private)/[\w.-]")
# Container images have folders of their own, and a test may say what a path looks like.
ALLOWED_PATHS = {"Dockerfile", "deploy", ".git"}


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def repository_files() -> Iterator[Path]:
    """Files that belong to the repository: hidden and generated folders left out."""
    skipped = {"__pycache__", "build", "dist", "var", "runs", "artifacts"}
    for path in sorted(ROOT.rglob("*")):
        steps = path.relative_to(ROOT).parts
        hidden = any(step.startswith(".") and step != ".ci" for step in steps[:-1])
        if path.is_file() and not hidden and not skipped & set(steps) and "egg-info" not in str(path):
            yield path


def too_long(source: str, most: int) -> list[str]:
    """Functions of more than `most` lines: from `def` to the end, docstring included."""
    return [
        f"{node.name} ({length} lines)"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > most
    ]


def imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_imports_go_one_way() -> None:
    assert lint_imports(str(ROOT / "pyproject.toml"), no_cache=True) == 0, "run lint-imports to see why"


def test_the_domain_needs_the_standard_library_only() -> None:
    """But for two modules that are nothing but arithmetic over many numbers."""
    arithmetic = {"certificates.py", "drift.py"}
    for path in python_files("moderation/domain"):
        foreign = {
            name
            for name in imported(path.read_text())
            if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("moderation.domain")
        }
        allowed = {"numpy", "numpy.typing"} if path.name in arithmetic else set()
        assert foreign <= allowed, f"{path.name} imports {foreign - allowed}"


def test_the_domain_looks_at_no_clock_and_draws_no_dice() -> None:
    for path in python_files("moderation/domain"):
        forbidden = re.findall(
            r"\b(?:datetime\.now|time\.time|random|secrets|uuid4|open)\(", path.read_text()
        )
        assert not forbidden, f"{path.name}: {forbidden}"


def test_no_function_is_longer_than_a_page() -> None:
    for folders, most in ((CODE, LONGEST), (("tests",), LONGEST_OF_TESTS)):
        for path in python_files(*folders):
            # What Alembic generates is one list, not a thought.
            if "migrations" not in path.parts:
                assert not too_long(path.read_text(), most), path


def test_a_long_function_would_be_seen() -> None:
    body = "\n".join(f"    x{number} = {number}" for number in range(LONGEST))
    assert too_long(f"class A:\n  def f(self):\n{body.replace('    ', '      ')}", LONGEST) == [
        "f (61 lines)"
    ]


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    """Every route of the application, which connects to nothing before its first request."""
    nowhere = "postgresql+psycopg://"
    app = create_app(Settings(nowhere, nowhere, "redis://", bytes(32), tmp_path_factory.mktemp("blobs")))
    found = [route for route in walk(app.routes) if isinstance(route, Route)]
    # As the document writes them: `{author:path}` is `{author}` there.
    written = {re.sub(r":path\}", "}", route.path) for route in found}
    assert set(app.openapi()["paths"]) <= written, "some routes are kept elsewhere"
    return found


def walk(routes: Any) -> Iterator[Any]:
    for route in routes:
        yield route
        # FastAPI keeps what was included behind an entry of its own.
        yield from walk(getattr(getattr(route, "original_router", route), "routes", ()))


def asked(dependant: Any) -> list[Scope | Permission | Right]:
    """What a route asks a service, a person or a partner for, through all its dependencies."""
    names = ("scope", "permission", "right")
    found = [getattr(dependant.call, name) for name in names if hasattr(dependant.call, name)]
    return found + [one for inner in dependant.dependencies for one in asked(inner)]


def scopes(dependant: Any) -> set[Scope]:
    return {one for one in asked(dependant) if isinstance(one, Scope)}


def rights(dependant: Any) -> set[Right]:
    return {one for one in asked(dependant) if isinstance(one, Right)}


def test_every_route_asks_for_a_scope_or_a_permission_or_is_public_on_purpose(routes: list[Route]) -> None:
    for route in routes:
        wanted = asked(route.dependant) if isinstance(route, APIRoute) else []
        if route.path in PUBLIC | DOOR:
            assert not wanted, f"{route.path} is not public"
        else:
            assert isinstance(route, APIRoute), f"{route.path} is no route of ours"
            assert len(set(wanted)) == 1, f"{route.methods} {route.path} asks for {wanted or 'nothing'}"


def test_what_is_public_on_purpose_is_there(routes: list[Route]) -> None:
    assert {route.path for route in routes} >= PUBLIC | DOOR


def test_keys_are_for_services_and_permissions_for_people(routes: list[Route]) -> None:
    for route in routes:
        if isinstance(route, APIRoute) and route.path.startswith("/console"):
            assert not scopes(route.dependant), f"{route.path} lets an API key in"
            assert not rights(route.dependant), f"{route.path} lets a partner in"


def test_partners_have_doors_of_their_own_and_no_other(routes: list[Route]) -> None:
    for route in routes:
        if isinstance(route, APIRoute):
            own = route.path.startswith("/v1/partner/")
            assert bool(rights(route.dependant)) == own, route.path
    assert any(route.path.startswith("/v1/partner/") for route in routes)


def test_what_changes_something_asks_for_more_than_reading(routes: list[Route]) -> None:
    for route in routes:
        if isinstance(route, APIRoute) and route.methods - {"GET"}:
            assert Scope.ITEMS_READ not in scopes(route.dependant), route.path


def subclasses(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_refusal_has_a_status() -> None:
    ours = {kind for kind in subclasses(errors.Refusal) if kind.__module__ == errors.__name__}
    assert len(ours) > 10
    # `Busy` is only the root of two; nobody raises it.
    assert ours - {errors.Busy} == set(problems.STATUS), "a refusal without a row, or a row without a refusal"


def test_every_refusal_of_other_modules_has_one_too() -> None:
    for kind in subclasses(errors.Refusal):
        assert any(ancestor in problems.STATUS for ancestor in kind.__mro__) or kind is errors.Busy, kind


def test_every_refusal_is_in_the_tree_that_its_module_draws() -> None:
    for kind in subclasses(errors.Refusal):
        if kind.__module__ == errors.__name__:
            assert kind.__name__ in (errors.__doc__ or ""), kind


def test_every_status_has_a_title() -> None:
    known = set(problems.STATUS.values()) | set(problems.STATUS_OF_CODE.values())
    assert known <= set(problems.TITLES)


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    for path in repository_files():
        steps = path.relative_to(ROOT).parts
        if path.suffix in TEXT and not ALLOWED_PATHS & set(steps) and path != Path(__file__):
            found = ABSOLUTE.findall(path.read_text(errors="replace"))
            assert not found, f"{path}: {found}"


def test_such_a_place_would_be_seen() -> None:
    home = "/" + "home/somebody/checkout"
    assert ABSOLUTE.search(f"see {home}/notes.txt")
    assert not ABSOLUTE.search("https://example.com" + home)
    assert not ABSOLUTE.search("GET /v1/items")
