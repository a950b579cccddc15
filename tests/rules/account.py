"""Cases of the alerts on an account's plan and subscription."""

from tests.rules import ACCOUNT_LABELS, DAY, GB, HOUR, MINUTE, Alert, Firing, Story, ago

USAGE = "borgbase_account_usage_bytes"
INCLUDED = "borgbase_account_plan_included_bytes"
MAXIMUM = "borgbase_account_plan_max_bytes"
EXCESS = "borgbase_account_billed_excess_bytes"
END = "borgbase_account_subscription_end_timestamp_seconds"
AUTO_RENEW = "borgbase_account_auto_renew"
BOTH = ("warning", "critical")


def plan(used: str) -> str:
    return (
        f"Account acme uses {used} of what its plan allows. Prune, delete what is not needed, or "
        "take a bigger plan before backups fail or cost extra."
    )


def subscription(ends: str) -> str:
    return (
        f"The subscription of account acme {ends} and was not renewed. Renew it at BorgBase, or "
        "its repos become unusable."
    )


def renewal(renews: str) -> str:
    return (
        f"The subscription of account acme {renews}. Check that the payment method at BorgBase is "
        "valid."
    )


ALERTS = [
    Alert(
        name="BorgBasePlanAlmostFull",
        summary="The BorgBase plan is almost full.",
        dashboard="borgbase-overview",
        labels=ACCOUNT_LABELS,
        fires={
            "of what is included, without a maximum": Firing(
                change={USAGE: 226 * GB}, description=plan("90.4%")
            ),
            "of the maximum, critical": Firing(
                change={USAGE: 976 * GB, MAXIMUM: 1000 * GB},
                severities=BOTH,
                description=plan("97.6%"),
            ),
        },
        silent={
            "at the threshold": Story(change={USAGE: 225 * GB}),
            "more than is included, and a higher maximum": Story(
                change={USAGE: 900 * GB, MAXIMUM: 1000 * GB}
            ),
            "no plan known": Story(change={USAGE: 900 * GB, INCLUDED: None}),
            "a limit of 0": Story(change={INCLUDED: 0}),
            "list incomplete, so usage unknown": Story(change={USAGE: None}),
        },
        stories={
            "critical only above its own threshold": Story(
                change={USAGE: 242.5 * GB},
                at={3 * HOUR: "BorgBasePlanAlmostFull"},
                ever="BorgBasePlanAlmostFull",
            )
        },
    ),
    Alert(
        name="BorgBasePlanOverage",
        summary="The BorgBase account is billed for more than its plan includes.",
        dashboard="borgbase-overview",
        labels=ACCOUNT_LABELS,
        fires={
            "billed excess": Firing(
                change={EXCESS: 12.5 * GB},
                severities=("info",),
                description="Account acme was last billed for 12.5GB beyond its plan. Backups are "
                "safe; to stop paying for it prune, or take a bigger plan.",
            )
        },
        silent={
            "none": Story(change={EXCESS: 0}),
            "never billed": Story(change={EXCESS: None}),
        },
    ),
    Alert(
        name="BorgBaseSubscriptionExpiring",
        summary="The BorgBase subscription runs out.",
        dashboard="borgbase-overview",
        labels=ACCOUNT_LABELS,
        fires={
            "in less than 14 days": Firing(
                change={END: 14 * DAY + 12 * MINUTE},
                since=15 * MINUTE,
                description=subscription("ends in 13d 22h 57m 0s"),
            ),
            "whether it renews itself is unknown": Firing(
                change={END: 14 * DAY + 12 * MINUTE, AUTO_RENEW: None},
                since=15 * MINUTE,
                description=subscription("ends in 13d 22h 57m 0s"),
            ),
            "in less than 3 days, critical": Firing(
                change={END: 3 * DAY},
                since=3 * MINUTE,
                severities=BOTH,
                description=subscription("ends in 2d 22h 57m 0s"),
            ),
            "already past": Firing(
                change={END: -2 * DAY}, severities=BOTH, description=subscription("has ended")
            ),
            "past, as its renewal failed": Firing(
                change={END: -2 * DAY, AUTO_RENEW: 1},
                severities=BOTH,
                description=subscription("has ended"),
            ),
            "renews itself": Firing(
                change={END: 14 * DAY + 12 * MINUTE, AUTO_RENEW: 1},
                since=15 * MINUTE,
                severities=("info",),
                summary="The BorgBase subscription is about to renew itself.",
                description=renewal("renews itself in 13d 22h 57m 0s"),
            ),
            "should have renewed itself today": Firing(
                change={END: -HOUR, AUTO_RENEW: 1},
                severities=("info",),
                summary="The BorgBase subscription is about to renew itself.",
                description=renewal("should have renewed itself by now"),
            ),
        },
        silent={
            "in 14 days": Story(change={END: ago(-14 * DAY)}),
            "in 14 days, and renews itself": Story(change={END: ago(-14 * DAY), AUTO_RENEW: 1}),
            "given up long ago": Story(change={END: -14 * DAY}),
            "given up long ago, though set to renew": Story(change={END: -14 * DAY, AUTO_RENEW: 1}),
            "no subscription": Story(change={END: None, AUTO_RENEW: None}),
        },
    ),
]
