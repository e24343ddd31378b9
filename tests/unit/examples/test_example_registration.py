"""The handlers of the registration."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from examples import registration
from examples.registration import Account, Plan, Preferences, UserInfo
from tasker.worker import PermanentError
from tests.unit.examples.contexts import context


def user(email: str = "new@example.com", name: str = "New User", **more: Any) -> UserInfo:
    return UserInfo(email=email, name=name, **more)


def account(plan: Plan) -> Account:
    return Account(user_id="user_1", email="new@example.com", name="New User", plan=plan, status="created")


def preferences(**chosen: Any) -> Preferences:
    return Preferences(user_id="user_1", preferences=chosen, defaults_applied=0, customizations=0)


async def test_a_second_attempt_makes_no_second_account() -> None:
    first, second = [await registration.create_account(user(plan="pro"), context({})) for _ in range(2)]
    assert first == second
    assert (first.status, first.plan) == ("created", "pro")


async def test_a_known_user_with_the_same_data_is_found() -> None:
    found = await registration.create_account(user("existing@example.com", "Existing User"), context({}))
    assert (found.status, found.user_id) == ("already_exists", "user_existing_001")


@pytest.mark.parametrize("other", [{"name": "Somebody"}, {"name": "Existing User", "plan": "pro"}])
async def test_a_known_user_with_other_data_fails_for_good(other: dict[str, Any]) -> None:
    with pytest.raises(PermanentError) as caught:
        await registration.create_account(user("existing@example.com", **other), context({}))
    assert caught.value.error_code == "USER_CONFLICT"


@pytest.mark.parametrize(("plan", "price"), [("pro", 29.99), ("enterprise", 299.99)])
async def test_a_plan_that_costs_is_billed_from_the_next_month(plan: Plan, price: float) -> None:
    billing = await registration.setup_billing(account(plan), context({}))
    assert (billing.status, billing.price) == ("active", price)
    today = datetime.now(UTC).date()
    assert billing.next_billing_date in (today + timedelta(days=30), today + timedelta(days=29))


async def test_a_free_plan_is_not_billed() -> None:
    billing = await registration.setup_billing(account("free"), context({}))
    assert (billing.status, billing.price, billing.billing_id) == ("skipped_free_plan", 0, None)


@pytest.mark.parametrize(
    ("plan", "count", "theme"), [("free", 7, "light"), ("pro", 8, "dark"), ("enterprise", 10, "dark")]
)
async def test_each_plan_has_its_defaults(plan: Plan, count: int, theme: str) -> None:
    made = await registration.initialize_preferences(account(plan), user())
    assert (made.defaults_applied, made.customizations, made.preferences["theme"]) == (count, 0, theme)


async def test_what_the_user_chose_wins() -> None:
    made = await registration.initialize_preferences(
        account("pro"), user(preferences={"theme": "light", "font": "serif"})
    )
    assert (made.preferences["theme"], made.preferences["font"]) == ("light", "serif")
    assert (made.defaults_applied, made.customizations) == (8, 2)
    assert registration.PREFERENCES["pro"]["theme"] == "dark"  # nobody else's are touched


@pytest.mark.parametrize(
    ("plan", "email", "channels"),
    [
        ("free", True, ["email", "in_app"]),
        ("pro", False, ["in_app"]),
        ("enterprise", True, ["email", "in_app", "sms"]),
    ],
)
async def test_a_welcome_goes_where_it_is_wanted(plan: Plan, email: bool, channels: list[str]) -> None:
    chosen = preferences(email_notifications=email)
    sent = await registration.send_welcome(account(plan), chosen, context({}))
    assert (sent.channels_used, sent.messages_sent) == (channels, len(channels))
