"""Keys: what is kept of them, what opens and what does not, and what is counted, on each kind of database."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from quintet.config import Project
from quintet.errors import BudgetError, ConfigError, RegistryError, RequestError
from quintet.registry import database
from quintet.registry.audit import read_acts, read_key_acts
from quintet.registry.budgets import Budget, parse_budget, refund, spend
from quintet.registry.database import close_engines, database_url, reading, writing
from quintet.registry.keys import any_keys, check_key, create_key, list_keys, revoke_key
from quintet.registry.tables import Table

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
DAY = 86_400


def changed(key: str) -> str:
    return key[:-1] + ("a" if key[-1] != "a" else "b")


def budgeted(project: Project, *texts: str) -> str:
    key, _ = create_key(project, departments=["hr"], budgets=[parse_budget(text) for text in texts])
    return key.id


def used(project: Project, key_id: str) -> list[int]:
    with reading(project) as session:
        rows = session.execute(
            text("SELECT used FROM budgets WHERE key_id = :key ORDER BY unit, period"), {"key": key_id}
        )
        return [int(row[0]) for row in rows]


def test_a_key_opens_until_it_is_revoked_and_says_what_it_may(project: Project) -> None:
    made, key = create_key(project, departments=["hr", "base"], name="front desk")
    found = check_key(project, key)
    assert found == made
    assert found is not None
    assert (found.departments, found.roles, found.name) == (("hr", "base"), ("ask",), "front desk")
    revoke_key(project, made.id)
    assert check_key(project, key) is None


def test_a_key_is_256_random_bits_behind_a_public_id(project: Project) -> None:
    one, key = create_key(project, departments=["hr"])
    _, other = create_key(project, departments=["hr"])
    prefix, key_id, secret = key.split("_")
    assert (prefix, key_id, len(secret)) == ("qk", one.id, 43)
    assert 62 ** len(secret) > 2**256
    assert secret != other.split("_")[2]


def test_nothing_in_the_database_is_the_key_but_its_hash(project: Project) -> None:
    made, key = create_key(project, departments=["hr"], name="n")
    secret = key.split("_")[2]
    with reading(project) as session:
        tables = [session.execute(table.select()).all() for table in Table.metadata.sorted_tables]
        kept = session.execute(text("SELECT sha256 FROM keys WHERE id = :id"), {"id": made.id}).scalar()
    assert secret not in repr(tables)
    assert kept == hashlib.sha256(key.encode()).hexdigest()


def test_what_opens_nothing(project: Project) -> None:
    made, key = create_key(project, departments=["hr"])
    unknown = key.replace(made.id, "a" * 12)
    for presented in ("", "none", "qk_", made.id, key[:-1], key + "a", changed(key), unknown, key.upper(), f"{key}\n"):
        assert check_key(project, presented) is None, presented
    assert check_key(project, key) is not None


def test_an_expired_key_opens_nothing(project: Project) -> None:
    made, key = create_key(project, departments=["hr"], expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert check_key(project, key) is not None
    with writing(project) as session:
        past = {"now": datetime.now(UTC), "id": made.id}
        session.execute(text("UPDATE keys SET expires_at = :now WHERE id = :id").bindparams(**past))
    assert check_key(project, key) is None
    assert list_keys(project)[0].status(datetime.now(UTC)) == "expired"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"departments": ["legal"]}, "'legal'; there are: hr, finance, base"),
        ({"departments": []}, "name what the key opens, of: hr, finance, base"),
        ({"departments": ["hr"], "expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expected a time to come"),
        (
            {"departments": ["hr"], "budgets": [Budget("tokens", "day", 1), Budget("tokens", "day", 2)]},
            "one of tokens/day",
        ),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(project: Project, wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        create_key(project, **wrong)  # type: ignore[arg-type]
    assert not any_keys(project)


def test_a_key_to_administer_needs_no_department(project: Project) -> None:
    made, _ = create_key(project, roles=["admin"])
    assert (made.departments, made.roles) == ((), ("admin",))


def test_there_was_a_key_even_when_all_are_revoked(project: Project) -> None:
    assert not any_keys(project)
    made, _ = create_key(project, departments=["hr"])
    revoke_key(project, made.id)
    assert any_keys(project)


def test_an_unknown_id_is_not_shown_since_it_may_be_a_whole_key(project: Project) -> None:
    _, key = create_key(project, departments=["hr"])
    with pytest.raises(RegistryError, match="between the first and the second '_'") as caught:
        revoke_key(project, key)
    assert key not in str(caught.value)


def test_what_is_done_to_keys_is_in_the_audit_once(project: Project) -> None:
    made, key = create_key(
        project, departments=["hr"], budgets=[parse_budget("1M/day")], name="front desk", by="ada@lab"
    )
    revoke_key(project, made.id, reason="sent by mail", by="ada@lab")
    first = revoke_key(project, made.id, reason="again")
    assert first.revoked_at == list_keys(project)[0].revoked_at
    create, revoke = read_key_acts(project, made.id)
    assert (create.act, create.who, create.key_id, create.department) == ("create key", "ada@lab", made.id, None)
    assert create.details == {
        "name": "front desk", "departments": ["hr"], "roles": ["ask"], "budgets": ["1,000,000 tokens/day"],
        "expires_at": None,
    }  # fmt: skip
    assert (revoke.act, revoke.reason) == ("revoke key", "sent by mail")
    assert key not in json.dumps([create.details, revoke.details])
    assert read_acts(project, "hr") == []


@pytest.mark.parametrize(
    ("written", "budget"),
    [
        ("1M/day", Budget("tokens", "day", 1_000_000)),
        ("1.5k / minute", Budget("tokens", "minute", 1500)),
        ("60requests/minute", Budget("requests", "minute", 60)),
        (" 2 K Tokens/Day ", Budget("tokens", "day", 2000)),
        ("5 requests/day", Budget("requests", "day", 5)),
    ],
)
def test_a_budget_is_read_as_people_write_it(written: str, budget: Budget) -> None:
    assert parse_budget(written) == budget


@pytest.mark.parametrize(
    "written", ["", "1M", "1M/week", "x/day", "0/day", "-1/day", "1.5/day", "1e3/day", "9" * 17 + "/day"]
)
def test_what_is_no_budget_is_refused_as_it_was_written(written: str) -> None:
    with pytest.raises(ConfigError, match="budget: expected"):
        parse_budget(written)


def test_what_is_spent_is_counted_until_there_is_no_more(project: Project) -> None:
    key_id = budgeted(project, "100 tokens/day")
    (usage,) = spend(project, key_id, {"tokens": 60}, NOON)
    assert (usage.remaining, usage.seconds_left(NOON)) == (40, DAY / 2)
    with pytest.raises(BudgetError, match="100 tokens/day; 60 are used or set aside, and this takes 41 more") as caught:
        spend(project, key_id, {"tokens": 41}, NOON)
    assert caught.value.retry_after == DAY / 2
    assert spend(project, key_id, {"tokens": 40}, NOON)[0].remaining == 0


def test_of_several_budgets_all_are_counted_or_none(project: Project) -> None:
    key_id = budgeted(project, "50/minute", "100/day")
    spend(project, key_id, {"tokens": 50}, NOON)
    spend(project, key_id, {"tokens": 40}, NOON + 60)
    with pytest.raises(BudgetError, match="100 tokens/day") as caught:
        spend(project, key_id, {"tokens": 11}, NOON + 60)
    assert caught.value.retry_after == DAY / 2 - 60
    assert used(project, key_id) == [90, 40]


def test_waiting_is_advised_for_the_last_budget_that_is_used_up(project: Project) -> None:
    key_id = budgeted(project, "10 requests/minute", "10 requests/day")
    spend(project, key_id, {"requests": 10}, NOON + 1)
    with pytest.raises(BudgetError, match="requests/day") as caught:
        spend(project, key_id, {"requests": 1}, NOON + 1)
    assert caught.value.retry_after == DAY / 2 - 1


def test_more_than_is_ever_allowed_is_no_matter_of_waiting(project: Project) -> None:
    key_id = budgeted(project, "100/minute", "1k/day")
    with pytest.raises(RequestError, match=r"takes up to 101 tokens.* 100 tokens/minute; lower max_tokens") as caught:
        spend(project, key_id, {"tokens": 101}, NOON)
    assert (caught.value.status, caught.value.code) == (400, "request_exceeds_budget")


def test_a_period_begins_anew_by_the_clock(project: Project) -> None:
    key_id = budgeted(project, "10 requests/minute")
    spend(project, key_id, {"requests": 10}, NOON + 59.9)
    assert spend(project, key_id, {"requests": 10}, NOON + 60)[0].used == 10


def test_a_clock_that_is_behind_does_not_open_the_old_period_again(project: Project) -> None:
    key_id = budgeted(project, "10 requests/minute")
    spend(project, key_id, {"requests": 10}, NOON + 60)
    with pytest.raises(BudgetError):
        spend(project, key_id, {"requests": 1}, NOON + 59)


def test_what_was_not_used_is_given_back_to_the_period_that_it_came_from(project: Project) -> None:
    key_id = budgeted(project, "100/minute", "1k/day")
    usages = spend(project, key_id, {"tokens": 80}, NOON)
    refund(project, key_id, 30, usages)
    assert used(project, key_id) == [50, 50]
    spend(project, key_id, {"tokens": 100}, NOON + 60)
    refund(project, key_id, 50, usages)
    assert used(project, key_id) == [100, 100]


def test_a_key_without_budgets_spends_freely(project: Project) -> None:
    made, _ = create_key(project, departments=["hr"])
    assert spend(project, made.id, {"requests": 1, "tokens": 10**12}) == []


def test_many_at_once_never_use_more_than_there_is(project: Project) -> None:
    key_id = budgeted(project, "100 requests/day", "1M/day")

    def try_to_spend(_: int) -> int:
        try:
            spend(project, key_id, {"requests": 1, "tokens": 7})
        except BudgetError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_to_spend, range(150))) == 100
    assert used(project, key_id) == [100, 700]


def test_a_restart_forgets_nothing(project: Project) -> None:
    made, key = create_key(project, departments=["hr"], budgets=[parse_budget("100/day")])
    spend(project, made.id, {"tokens": 60})
    close_engines()
    found = check_key(project, key)
    assert found is not None
    assert found.budgets[0].remaining == 40


def test_a_registry_from_before_there_were_keys_keeps_its_audit_and_its_guard(project: Project) -> None:
    url = database_url(project)
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text(
            "INSERT INTO audit (at, who, act, department, version, details) "
            "VALUES ('2026-01-01 00:00:00', 'ada@lab', 'release', 'hr', 1, '{}')"
        ))  # fmt: skip
    create_key(project, departments=["hr"])
    assert [(act.act, act.who, act.key_id) for act in read_acts(project, "hr")] == [("release", "ada@lab", None)]
    for change in ("UPDATE audit SET who = 'eve'", "DELETE FROM audit"):
        with pytest.raises(DBAPIError, match="only grows"), engine.begin() as connection:
            connection.execute(text(change))
    engine.dispose()
