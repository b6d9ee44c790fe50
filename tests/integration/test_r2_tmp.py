import random, string, time, cProfile, pstats
from datetime import UTC, datetime
import pytest
from moderation.governance import bank_loading, banks
from moderation.governance.bank_loading import About
from moderation.pipeline.matchers import Matchers
from moderation.storage.database import Databases, transaction
from moderation.storage.vault import Vault

@pytest.mark.parametrize("n", [10_000, 100_000])
def test_time(databases: Databases, vault: Vault, n: int) -> None:
    c = random.Random(1)
    words = sorted({"".join(c.choices(string.ascii_lowercase, k=c.randint(5, 12))) for _ in range(int(n*1.02))})[:n-10]
    now = datetime.now(UTC)
    with transaction(databases.content) as s:
        banks.create(s, name="big", kind="term", category="spam", action="review", allow=False, actor="operator", now=now)
        b = time.monotonic(); bank_loading.fill(s, vault, "big", words, About(verified=True), actor="operator", now=now); print("\nfill", n, time.monotonic()-b)
    m = Matchers()
    def cur(tag):
        b, p = time.monotonic(), time.process_time()
        with transaction(databases.content) as s:
            snap = m.current(s, vault, datetime.now(UTC))
        print(tag, n, round(time.monotonic()-b, 3), "cpu", round(time.process_time()-p, 3)); return snap
    cur("first")
    cur("same")
    for i in range(3):
        with transaction(databases.content) as s:
            banks.add_content(s, vault, bank="big", content=f"weather balloon {i}".encode(), note="", verified=True, actor="operator", now=datetime.now(UTC))
        b = time.monotonic()
        pr = cProfile.Profile()
        while not cur("change").find([f"a weather balloon {i} here"], datetime.now(UTC))[0]:
            assert time.monotonic()-b < 60
            time.sleep(.05)
        print("seen after", time.monotonic()-b)
