"""What the process was told by its environment, read once at the entry point and passed in.

Every variable is listed in `docs/configuration.md`. Addresses that would carry content in the clear are
refused here, before anything connects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from moderation import keks
from moderation.keks import KekError, Keks

PREFIX = "MODERATION_"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
SCHEDULES = ("monthly", "weekly", "off")
TLS_MODES = {"require", "verify-ca", "verify-full"}


class SettingsError(Exception):
    """The environment can't be used; the message says which variable and what to do."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may send, and how far the work may pile up before the API says so."""

    parts: int = 100
    text_code_points: int = 50_000
    body_bytes: int = 48_000_000
    batch_items: int = 100
    requests_per_minute: int = 12_000
    backlog_items: int = 50_000
    backlog_items_per_client: int = 20_000


@dataclass(frozen=True, slots=True)
class Work:
    """How machine work is cut up: batches, leases, attempts (`docs/operations.md` explains each)."""

    batch_items: int = 64
    bulk_share: float = 0.25
    queue_depth: int = 4
    lease_seconds: float = 60.0
    max_attempts: int = 4
    retry_seconds: float = 2.0
    poll_seconds: float = 0.05
    model_threads: int = 1
    burst_authors: int = (
        5  # of the same text within `burst_minutes`, at most an hour (`docs/text-signals.md`)
    )
    burst_minutes: float = 10.0
    ocr: bool = True  # whether the text in pictures is read
    bank_flood: int = (
        50  # matches of one entry within an hour, up to which it is left alone (`docs/banks.md`)
    )


@dataclass(frozen=True, slots=True)
class Oidc:
    """An OpenID provider by which people may log in."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    name: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an entry point needs; secrets never show in a repr."""

    database_url: str = field(repr=False)
    keystore_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    kek: Keks = field(repr=False)
    blob_dir: Path
    # As the owner of the tables, for `migrate` alone; empty: the application is the owner.
    owner_url: str = field(default="", repr=False)
    owner_keystore_url: str = field(default="", repr=False)
    # How old an epoch of the KEK gets before the relay begins another, and how long the old one stays; 0: never.
    kek_days: float = 0.0
    kek_grace_hours: float = 24.0
    insecure_dev: bool = False
    log_level: str = "info"
    workers: int = 1
    console_url: str = ""
    oidc: Oidc | None = None
    reports: str = "monthly"  # how often reports on audit, retention and access are signed
    # Image classifiers of others to be asked beside our own, by their entry points' names (`docs/models.md`).
    image_plugins: tuple[str, ...] = ()
    model_dir: Path | None = None  # where versions that are added here are kept; None: beside the blobs
    index_dir: Path | None = (
        None  # where each machine keeps its index of banked pictures; None: beside the blobs
    )
    checkpoint_dir: Path | None = None  # where checkpoints of the audit log are written besides
    # Where statements of reasons are sent, and by which token; empty: they are not.
    statements_url: str = ""
    statements_token: str = field(default="", repr=False)
    # How often the relay has heads learned anew, for which clients' posts (none: for all together), and in whose
    # name they are proposed; 0 days: never by itself.
    learn_days: float = 0.0
    learn_clients: tuple[str, ...] = ()
    learn_by: str = ""
    limits: Limits = field(default_factory=Limits)
    work: Work = field(default_factory=Work)

    @property
    def learning(self) -> Path:
        """The folder of rounds of learning that are under way: sealed bundles, and what is made of them."""
        return self.models.parent / "learning"

    @property
    def models(self) -> Path:
        """The folder of the model versions that were added here."""
        return self.model_dir or self.blob_dir.absolute().parent / "models"

    @property
    def index(self) -> Path:
        """The folder of the index of banked pictures."""
        return self.index_dir or self.blob_dir.absolute().parent / "index"


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read `MODERATION_*` variables.

    Raises:
        SettingsError: a variable is missing, malformed, or names an address without encryption.
    """
    insecure = _get(environment, "INSECURE_DEV", "0") not in ("0", "", "false")
    limits, work = Limits(), Work()
    settings = Settings(
        database_url=_postgres_url(environment, "DATABASE_URL"),
        keystore_url=_postgres_url(environment, "KEYSTORE_URL"),
        redis_url=_require(environment, "REDIS_URL"),
        kek=read_keks(environment),
        blob_dir=Path(_require(environment, "BLOB_DIR")),
        owner_url=_postgres_url(environment, "OWNER_DATABASE_URL", required=False),
        owner_keystore_url=_postgres_url(environment, "OWNER_KEYSTORE_URL", required=False),
        kek_days=_number(environment, "KEK_DAYS", 0.0, least=0.0),
        kek_grace_hours=_number(environment, "KEK_GRACE_HOURS", 24.0, least=0.0),
        insecure_dev=insecure,
        log_level=_get(environment, "LOG_LEVEL", "info"),
        workers=_count(environment, "WORKERS", 1),
        console_url=_origin(environment, insecure),
        oidc=_oidc(environment, insecure),
        reports=_schedule(environment),
        image_plugins=_names(environment, "IMAGE_PLUGINS"),
        model_dir=_folder(environment, "MODEL_DIR"),
        index_dir=_folder(environment, "INDEX_DIR"),
        checkpoint_dir=_folder(environment, "CHECKPOINT_DIR"),
        statements_url=_statements_url(environment, insecure),
        statements_token=_get(environment, "STATEMENTS_TOKEN", ""),
        learn_days=_number(environment, "LEARN_DAYS", 0.0, least=0.0),
        learn_clients=_names(environment, "LEARN_CLIENTS"),
        learn_by=_get(environment, "LEARN_BY", "").strip(),
        limits=Limits(
            requests_per_minute=_count(environment, "REQUESTS_PER_MINUTE", limits.requests_per_minute),
            backlog_items=_count(environment, "BACKLOG_ITEMS", limits.backlog_items),
            backlog_items_per_client=_count(
                environment, "BACKLOG_ITEMS_PER_CLIENT", limits.backlog_items_per_client
            ),
        ),
        work=Work(
            batch_items=_count(environment, "BATCH_ITEMS", work.batch_items),
            lease_seconds=_number(environment, "LEASE_SECONDS", work.lease_seconds),
            max_attempts=_count(environment, "MAX_ATTEMPTS", work.max_attempts),
            retry_seconds=_number(environment, "RETRY_SECONDS", work.retry_seconds),
            model_threads=_count(environment, "MODEL_THREADS", work.model_threads),
            burst_authors=_count(environment, "BURST_AUTHORS", work.burst_authors),
            burst_minutes=_number(environment, "BURST_MINUTES", work.burst_minutes),
            ocr=_switch(environment, "OCR", work.ocr),
            bank_flood=_count(environment, "BANK_FLOOD", work.bank_flood),
        ),
    )
    if not insecure:
        _require_all_encrypted(settings)
    return settings


def _require_all_encrypted(settings: Settings) -> None:
    for name, url in (
        ("DATABASE_URL", settings.database_url),
        ("KEYSTORE_URL", settings.keystore_url),
        ("OWNER_DATABASE_URL", settings.owner_url),
        ("OWNER_KEYSTORE_URL", settings.owner_keystore_url),
    ):
        _require_encrypted(name, _postgres_is_safe(url))
    _require_encrypted("REDIS_URL", _redis_is_safe(settings.redis_url))


def read_keks(environment: Mapping[str, str]) -> Keks:
    """The key-encryption keys, in `MODERATION_KEK` or in the file `MODERATION_KEK_FILE` names.

    Raises:
        SettingsError: neither is set, the file can't be read, or it holds no keys of 32 bytes.
    """
    text = environment.get(PREFIX + "KEK")
    path = environment.get(PREFIX + "KEK_FILE")
    if not text and not path:
        raise SettingsError(f"Set {PREFIX}KEK_FILE to a file holding 32 random bytes in base64.")
    name = "KEK" if text else "KEK_FILE"
    try:
        return keks.parse(text) if text else keks.read(Path(path or ""))
    except KekError as error:
        raise SettingsError(f"{PREFIX}{name} {error}" if text else f"{PREFIX}{name}: {error}") from error


def _get(environment: Mapping[str, str], name: str, default: str) -> str:
    return environment.get(PREFIX + name, default)


def _require(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(PREFIX + name)
    if not value:
        raise SettingsError(f"Set {PREFIX}{name}; `moderation up` sets it by itself for one machine.")
    return value


def _folder(environment: Mapping[str, str], name: str) -> Path | None:
    path = _get(environment, name, "")
    return Path(path) if path else None


def _origin(environment: Mapping[str, str], insecure: bool) -> str:
    """How browsers reach the console, without a path; empty when nobody said."""
    url = _get(environment, "CONSOLE_URL", "").rstrip("/")
    if url:
        _require_web("CONSOLE_URL", url, insecure)
        if urlsplit(url).path or urlsplit(url).query:
            raise SettingsError(
                f"{PREFIX}CONSOLE_URL has a path; it must be like https://moderation.example.org."
            )
    return url


def _oidc(environment: Mapping[str, str], insecure: bool) -> Oidc | None:
    issuer = _get(environment, "OIDC_ISSUER", "")
    if not issuer:
        return None
    _require_web("OIDC_ISSUER", issuer, insecure)
    return Oidc(
        issuer=issuer,
        client_id=_require(environment, "OIDC_CLIENT_ID"),
        client_secret=_require(environment, "OIDC_CLIENT_SECRET"),
        name=_get(environment, "OIDC_NAME", urlsplit(issuer).hostname or "your provider"),
    )


def _statements_url(environment: Mapping[str, str], insecure: bool) -> str:
    url = _get(environment, "STATEMENTS_URL", "")
    if url:
        _require_web("STATEMENTS_URL", url, insecure)
        _require(environment, "STATEMENTS_TOKEN")
    return url


def _require_web(name: str, url: str, insecure: bool) -> None:
    address = urlsplit(url)
    plain = address.scheme == "http" and (insecure or address.hostname in LOOPBACK)
    if not address.hostname or not (address.scheme == "https" or plain):
        raise SettingsError(f"{PREFIX}{name} must start with https:// and name a host.")


def _schedule(environment: Mapping[str, str]) -> str:
    text = _get(environment, "REPORTS", "monthly")
    if text not in SCHEDULES:
        raise SettingsError(f"{PREFIX}REPORTS is {text!r}; it must be one of {', '.join(SCHEDULES)}.")
    return text


def _names(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Names with commas between them: lower-case letters, digits and hyphens."""
    found = tuple(one.strip() for one in _get(environment, name, "").split(",") if one.strip())
    if odd := [one for one in found if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", one)]:
        raise SettingsError(
            f"{PREFIX}{name} names {odd[0]!r}; a name is lower-case letters, digits and hyphens."
        )
    return found


def _number(environment: Mapping[str, str], name: str, default: float, least: float | None = None) -> float:
    text = _get(environment, name, str(default))
    try:
        value = float(text)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}{name} is {text!r}; it must be a number.") from error
    if least is not None and value == least:
        return value
    if not 0 < value < inf:
        raise SettingsError(f"{PREFIX}{name} is {text}; it must be a number above 0.")
    return value


def _switch(environment: Mapping[str, str], name: str, default: bool) -> bool:
    text = _get(environment, name, "on" if default else "off")
    if text not in ("on", "off"):
        raise SettingsError(f"{PREFIX}{name} is {text!r}; it must be on or off.")
    return text == "on"


def _count(environment: Mapping[str, str], name: str, default: int) -> int:
    value = _number(environment, name, default)
    if value != int(value):
        raise SettingsError(f"{PREFIX}{name} is {value:g}; it must be a whole number.")
    return int(value)


def _postgres_url(environment: Mapping[str, str], name: str, *, required: bool = True) -> str:
    url = _require(environment, name) if required else _get(environment, name, "")
    if not url:
        return ""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise SettingsError(f"{PREFIX}{name} must start with postgresql://; only PostgreSQL is supported.")
    return f"postgresql+psycopg://{rest}"


def _postgres_is_safe(url: str) -> bool:
    """Whether every host the driver may connect to is local, or TLS is demanded once and clearly.

    Parameters override the address's own host, may list several, and the last of two values wins.
    """
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    named = [
        host for key in ("host", "hostaddr") for value in query.get(key, ()) for host in value.split(",")
    ]
    hosts = named or [urlsplit(url).hostname or ""]
    local = all(host == "" or host.startswith("/") or host in LOOPBACK for host in hosts)
    modes = query.get("sslmode", [])
    return local or (len(modes) == 1 and modes[0] in TLS_MODES)


def _redis_is_safe(url: str) -> bool:
    address = urlsplit(url)
    return address.scheme in ("rediss", "unix") or (
        address.scheme == "redis" and address.hostname in LOOPBACK
    )


def _require_encrypted(name: str, encrypted: bool) -> None:
    if not encrypted:
        raise SettingsError(
            f"{PREFIX}{name} would carry data unencrypted. Use TLS (sslmode=require, rediss://), a Unix socket "
            f"or loopback, or set {PREFIX}INSECURE_DEV=1 on a machine without real data."
        )
