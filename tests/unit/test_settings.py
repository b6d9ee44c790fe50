"""Settings: complete or refused with a sentence, and never an address that carries content in the clear."""

import base64
from pathlib import Path

import pytest

from moderation.settings import SettingsError, from_environment

KEK = base64.b64encode(bytes(range(32))).decode()
COMPLETE = {
    "MODERATION_DATABASE_URL": "postgresql://app@db.example/moderation?sslmode=verify-full",
    "MODERATION_KEYSTORE_URL": "postgresql+psycopg://app@/keystore?host=%2Frun%2Fpostgresql",
    "MODERATION_REDIS_URL": "rediss://broker.example:6380/0",
    "MODERATION_KEK": KEK,
    "MODERATION_BLOB_DIR": "/data/blobs",
}


def test_complete_environment():
    settings = from_environment(COMPLETE | {"MODERATION_WORKERS": "3", "MODERATION_BATCH_ITEMS": "16"})
    assert settings.database_url == "postgresql+psycopg://app@db.example/moderation?sslmode=verify-full"
    assert settings.keystore_url == "postgresql+psycopg://app@/keystore?host=%2Frun%2Fpostgresql"
    assert (settings.kek.keys, settings.blob_dir) == ({1: bytes(range(32))}, Path("/data/blobs"))
    assert (settings.workers, settings.work.batch_items, settings.insecure_dev) == (3, 16, False)


@pytest.mark.parametrize("name", ["DATABASE_URL", "KEYSTORE_URL", "REDIS_URL", "KEK", "BLOB_DIR"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_variable_is_named(name, value):
    environment = {k: v for k, v in COMPLETE.items() if k != f"MODERATION_{name}"}
    if value is not None:
        environment[f"MODERATION_{name}"] = value
    with pytest.raises(SettingsError, match=f"MODERATION_{name}"):
        from_environment(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://app@db.example/moderation"),
        ("DATABASE_URL", "postgresql"),
        ("KEYSTORE_URL", "sqlite:///keys.db"),
        ("KEK", base64.b64encode(b"too short").decode()),
        ("KEK", base64.b64encode(bytes(33)).decode()),
        ("KEK", "not base64!"),
        ("WORKERS", "many"),
        ("WORKERS", "0"),
        ("LEASE_SECONDS", "-1"),
        ("BATCH_ITEMS", "nan"),
        ("BATCH_ITEMS", "inf"),
        ("BATCH_ITEMS", "0.5"),
        ("LEARN_DAYS", "-1"),
        ("LEARN_CLIENTS", "Not A Name"),
    ],
)
def test_malformed_variable_is_named(name, value):
    with pytest.raises(SettingsError, match=f"MODERATION_{name}"):
        from_environment(COMPLETE | {f"MODERATION_{name}": value})


PLAINTEXT = [
    ("DATABASE_URL", "postgresql://app@db.example/moderation"),
    ("DATABASE_URL", "postgresql://app@db.example/moderation?sslmode=prefer"),
    ("DATABASE_URL", "postgresql://app@10.0.0.5/moderation?sslmode=disable"),
    ("KEYSTORE_URL", "postgresql://app@/keystore?host=db.example"),
    ("REDIS_URL", "redis://broker.example:6379/0"),
    ("REDIS_URL", "redis://:password@10.0.0.5"),
]

# The driver lets a parameter override the host, and takes several hosts and the last of two values.
DISGUISED = [
    ("DATABASE_URL", "postgresql://app@localhost/moderation?host=db.example"),
    ("DATABASE_URL", "postgresql://app@localhost/moderation?hostaddr=10.0.0.5"),
    ("DATABASE_URL", "postgresql:///moderation?hostaddr=10.0.0.5"),
    ("DATABASE_URL", "postgresql:///moderation?host=/run/postgresql,db.example"),
    ("DATABASE_URL", "postgresql://app@db.example/moderation?sslmode=require&sslmode=disable"),
    ("REDIS_URL", "redissomething://broker.example"),
]


@pytest.mark.parametrize(("name", "value"), PLAINTEXT + DISGUISED)
def test_plaintext_address_is_refused(name, value):
    with pytest.raises(SettingsError, match=f"MODERATION_{name} would carry data unencrypted"):
        from_environment(COMPLETE | {f"MODERATION_{name}": value})


@pytest.mark.parametrize(("name", "value"), PLAINTEXT + DISGUISED)
def test_plaintext_address_passes_in_insecure_dev_only(name, value):
    assert from_environment(COMPLETE | {f"MODERATION_{name}": value, "MODERATION_INSECURE_DEV": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://app@db.example/moderation?sslmode=require"),
        ("DATABASE_URL", "postgresql://app@127.0.0.1/moderation"),
        ("DATABASE_URL", "postgresql://app@localhost:5433/moderation"),
        ("DATABASE_URL", "postgresql:///moderation"),
        ("REDIS_URL", "redis://localhost:6379"),
        ("REDIS_URL", "redis://[::1]:6379"),
        ("REDIS_URL", "unix:///run/broker.sock"),
    ],
)
def test_protected_or_local_address_is_accepted(name, value):
    assert from_environment(COMPLETE | {f"MODERATION_{name}": value})


def test_kek_from_a_file(tmp_path):
    environment = {k: v for k, v in COMPLETE.items() if k != "MODERATION_KEK"}
    file = tmp_path / "kek"
    with pytest.raises(SettingsError, match="can't be read"):
        from_environment(environment | {"MODERATION_KEK_FILE": str(file)})
    file.write_text(KEK + "\n")
    assert from_environment(environment | {"MODERATION_KEK_FILE": str(file)}).kek.keys == {
        1: bytes(range(32))
    }


def test_repr_shows_no_secret():
    shown = repr(from_environment(COMPLETE | {"MODERATION_REDIS_URL": "rediss://:hunter2@broker.example"}))
    assert "hunter2" not in shown
    assert "db.example" not in shown
    assert repr(bytes(range(32))) not in shown


def test_the_owner_is_the_application_unless_told():
    plain = from_environment(COMPLETE)
    assert (plain.owner_url, plain.owner_keystore_url) == ("", "")
    url = "postgresql://owner@db.example/moderation?sslmode=require"
    owned = from_environment(COMPLETE | {"MODERATION_OWNER_DATABASE_URL": url})
    assert owned.owner_url == url.replace("postgresql://", "postgresql+psycopg://")
    with pytest.raises(SettingsError, match="MODERATION_OWNER_DATABASE_URL would carry"):
        from_environment(COMPLETE | {"MODERATION_OWNER_DATABASE_URL": url.replace("require", "disable")})


def test_several_keys_and_how_long_they_last():
    several = from_environment(COMPLETE | {"MODERATION_KEK": f"1 {KEK},2 {KEK}", "MODERATION_KEK_DAYS": "30"})
    assert (several.kek.newest, several.kek_days, several.kek_grace_hours) == (2, 30, 24)
    assert from_environment(COMPLETE | {"MODERATION_KEK_GRACE_HOURS": "0"}).kek_grace_hours == 0
    with pytest.raises(SettingsError, match="KEK_DAYS is -1"):
        from_environment(COMPLETE | {"MODERATION_KEK_DAYS": "-1"})
