"""Handlers of a registration: async functions that say in their annotations what they take from where.

Users, bank and mail are stand-ins at the end of this module. Whatever they do is keyed by `context.idempotency_key`,
since a step may run more than once.
"""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel

from tasker.worker import Dep, Inputs, PermanentError, StepContext, step_handler

Plan = Literal["free", "pro", "enterprise"]

MONTHLY_PRICES: Final[dict[Plan, float]] = {"free": 0, "pro": 29.99, "enterprise": 299.99}
BILLING_PERIOD: Final = timedelta(days=30)

_FREE: Final[dict[str, Any]] = {
    "email_notifications": True,
    "marketing_emails": False,
    "product_updates": True,
    "weekly_digest": False,
    "theme": "light",
    "language": "en",
    "timezone": "UTC",
}
_PRO: Final = _FREE | {
    "marketing_emails": True,
    "weekly_digest": True,
    "theme": "dark",
    "api_notifications": True,
}
_ENTERPRISE: Final = _PRO | {"audit_logs": True, "advanced_reports": True}
PREFERENCES: Final[dict[Plan, dict[str, Any]]] = {"free": _FREE, "pro": _PRO, "enterprise": _ENTERPRISE}


class UserInfo(BaseModel):
    email: str
    name: str
    plan: Plan = "free"
    phone: str | None = None
    source: str = "web"
    preferences: dict[str, Any] = {}


class Account(BaseModel):
    user_id: str
    email: str
    name: str
    plan: Plan
    status: Literal["created", "already_exists"]


class Billing(BaseModel):
    user_id: str
    status: Literal["active", "skipped_free_plan"]
    price: float
    billing_id: str | None = None
    next_billing_date: date | None = None


class Preferences(BaseModel):
    user_id: str
    preferences: dict[str, Any]
    defaults_applied: int
    customizations: int


class Welcome(BaseModel):
    user_id: str
    channels_used: list[str]
    messages_sent: int


class Activation(BaseModel):
    user_id: str
    status: Literal["active"]
    plan: Plan
    activated_at: datetime


# Where arguments come from: the task's context, or the result of a step before.
User = Annotated[UserInfo, Inputs("user_info")]
TheAccount = Annotated[Account, Dep("create_user_account")]
ThePreferences = Annotated[Preferences, Dep("initialize_preferences")]


@step_handler("examples.registration.create_account")
async def create_account(user: User, context: StepContext) -> Account:
    """Opens an account, or finds the one there is; the same address with other data is somebody's mistake."""
    known = await find_account(user.email)
    if known is None:
        return await insert_account(user, idempotency_key=context.idempotency_key)
    if (known.name, known.plan) != (user.name, user.plan):
        raise PermanentError(f"{user.email} is registered with other data", error_code="USER_CONFLICT")
    return known


@step_handler("examples.registration.setup_billing")
async def setup_billing(account: TheAccount, context: StepContext) -> Billing:
    price = MONTHLY_PRICES[account.plan]
    if not price:
        return Billing(user_id=account.user_id, status="skipped_free_plan", price=price)
    return Billing(
        user_id=account.user_id,
        status="active",
        price=price,
        billing_id=await subscribe(account, price, idempotency_key=context.idempotency_key),
        next_billing_date=datetime.now(UTC).date() + BILLING_PERIOD,
    )


@step_handler("examples.registration.initialize_preferences")
async def initialize_preferences(account: TheAccount, user: User) -> Preferences:
    """Starts from the plan's defaults; what the user chose wins."""
    defaults = PREFERENCES[account.plan]
    return Preferences(
        user_id=account.user_id,
        preferences=defaults | user.preferences,
        defaults_applied=len(defaults),
        customizations=len(user.preferences),
    )


@step_handler("examples.registration.send_welcome")
async def send_welcome(account: TheAccount, chosen: ThePreferences, context: StepContext) -> Welcome:
    """Sends on all channels at once, each message with a key of its own."""
    channels = channels_for(account.plan, chosen.preferences)
    await asyncio.gather(
        *(
            send(channel, account, idempotency_key=f"{context.idempotency_key}:{channel}")
            for channel in channels
        )
    )
    return Welcome(user_id=account.user_id, channels_used=channels, messages_sent=len(channels))


@step_handler("examples.registration.activate")
async def activate(account: TheAccount) -> Activation:
    """Reads the account from three steps before."""
    return Activation(
        user_id=account.user_id, status="active", plan=account.plan, activated_at=datetime.now(UTC)
    )


def channels_for(plan: Plan, preferences: dict[str, Any]) -> list[str]:
    """Return how to reach a user: mail if wanted, the application always, text messages on the largest plan."""
    wanted = {
        "email": preferences["email_notifications"],
        "in_app": True,
        "sms": plan == "enterprise",
    }
    return [channel for channel, yes in wanted.items() if yes]


# Stand-ins for a database, a bank and a mail server

ACCOUNTS: Final = {
    "existing@example.com": Account(
        user_id="user_existing_001",
        email="existing@example.com",
        name="Existing User",
        plan="free",
        status="already_exists",
    ),
}


async def find_account(email: str) -> Account | None:
    return ACCOUNTS.get(email)


async def insert_account(user: UserInfo, *, idempotency_key: str) -> Account:
    return Account(
        user_id=f"user_{idempotency_key[-12:]}",
        email=user.email,
        name=user.name,
        plan=user.plan,
        status="created",
    )


async def subscribe(account: Account, price: float, *, idempotency_key: str) -> str:
    return f"bill_{idempotency_key[-12:]}"


async def send(channel: str, account: Account, *, idempotency_key: str) -> None:
    pass
