"""Cases of the alerts on an account's plan and subscription."""

from tests.rules import ACCOUNT_LABELS, DAY, GB, HOUR, MINUTE, Alert, Firing, Story, ago, until

USAGE = "borgbase_account_usage_bytes"
INCLUDED = "borgbase_account_plan_included_bytes"
MAXIMUM = "borgbase_account_plan_max_bytes"
EXCESS = "borgbase_account_billed_excess_bytes"
END = "borgbase_account_subscription_end_timestamp_seconds"
ACTIVE = "borgbase_account_subscription_active"
FULL = "borgbase_account_api_tokens{permission=full_access}"
AUTO_RENEW = "borgbase_account_auto_renew"
BOTH = ("warning", "critical")


def plan(used: str) -> str:
    return (
        f"Account acme uses {used} of its plan's maximum. At 100% BorgBase refuses writes, and "
        "all backups of the account fail. Prune and compact the largest repos, or take a larger "
        "plan."
    )


def subscription(ends: str) -> str:
    return (
        f"The subscription of account acme {ends} and has not been renewed. Without a "
        "subscription, expect BorgBase to refuse backups. Renew it at BorgBase."
    )


def renewal(renews: str) -> str:
    return (
        f"The subscription of account acme {renews}. Check that the payment method at BorgBase is "
        "valid."
    )


def inactive(before: str) -> str:
    return (
        f"BorgBase reports the subscription of account acme as not active{before}. Expect "
        "BorgBase to refuse backups. Check the last payment at BorgBase."
    )


ALERTS = [
    Alert(
        name="BorgBasePlanAlmostFull",
        summary="The BorgBase plan is almost full.",
        dashboard="borgbase-overview",
        labels=ACCOUNT_LABELS,
        fires={
            "of what is included, without a maximum": Firing(
                change={USAGE: 226 * GB},
                severities=("info",),
                summary="More than 90% of the BorgBase plan's included space is used.",
                description="Account acme uses 90% of what its plan includes. Backups are safe: "
                "the plan has no maximum, but usage above 100% is billed. To pay less, prune and "
                "compact, or compare plans.",
            ),
            "of the maximum": Firing(
                change={USAGE: 915 * GB, MAXIMUM: 1000 * GB}, description=plan("92%")
            ),
            "of the maximum, critical": Firing(
                change={USAGE: 976 * GB, MAXIMUM: 1000 * GB},
                severities=BOTH,
                description=plan("98%"),
            ),
        },
        silent={
            "at the threshold": Story(change={USAGE: 900 * GB, MAXIMUM: 1000 * GB}),
            "at the threshold of what is included": Story(change={USAGE: 225 * GB}),
            "more than is included, and a higher maximum": Story(
                change={USAGE: 900 * GB, MAXIMUM: 1000 * GB}
            ),
            "no plan known": Story(change={USAGE: 900 * GB, INCLUDED: None}),
            "a limit of 0": Story(change={INCLUDED: 0}),
            "list incomplete, what is known fits": Story(change={USAGE: None}),
        },
        stories={
            "critical only above its own threshold": Story(
                change={USAGE: 970 * GB, MAXIMUM: 1000 * GB},
                at={3 * HOUR: "BorgBasePlanAlmostFull"},
                end=3 * HOUR,
                ever="BorgBasePlanAlmostFull",
            ),
            "below 90% again, not below 85%: it goes on; then it ends": Story(
                change={
                    USAGE: until(3 * HOUR, 910 * GB, until(6 * HOUR, 860 * GB, 840 * GB)),
                    MAXIMUM: 1000 * GB,
                },
                at={6 * HOUR - 5 * MINUTE: "BorgBasePlanAlmostFull", 7 * HOUR: ""},
                ever="BorgBasePlanAlmostFull",
                end=7 * HOUR,
            ),
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
                "safe. To pay less, prune and compact, or take a larger plan.",
            )
        },
        silent={
            "none": Story(change={EXCESS: 0}),
            "never billed": Story(change={EXCESS: None}),
        },
    ),
    Alert(
        name="BorgBaseSubscriptionExpiring",
        summary="The BorgBase subscription ends soon or has ended.",
        dashboard="borgbase-overview",
        labels=ACCOUNT_LABELS,
        fires={
            "in less than 14 days": Firing(
                change={END: 14 * DAY + 12 * MINUTE},
                since=15 * MINUTE,
                description=subscription("ends in 13d 22h 45m 0s"),
            ),
            "whether it renews itself is unknown": Firing(
                change={END: 14 * DAY + 12 * MINUTE, AUTO_RENEW: None},
                since=15 * MINUTE,
                description=subscription("ends in 13d 22h 45m 0s"),
            ),
            "in less than 3 days, critical": Firing(
                change={END: 3 * DAY},
                since=3 * MINUTE,
                severities=BOTH,
                description=subscription("ends in 2d 22h 45m 0s"),
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
                description=renewal("renews itself in 13d 22h 45m 0s"),
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
    Alert(
        name="BorgBaseSubscriptionInactive",
        summary="The BorgBase subscription is not active.",
        dashboard="borgbase-overview",
        labels=ACCOUNT_LABELS,
        fires={
            "since it was first seen": Firing(
                change={ACTIVE: 0}, description=inactive(", 89d 22h 48m 0s before its end")
            ),
            "all at once": Firing(
                change={ACTIVE: until(12 * MINUTE, 1, 0), END: None},
                since=12 * MINUTE,
                severities=BOTH,
                description=inactive(""),
            ),
        },
        silent={
            "unknown": Story(change={ACTIVE: None}),
            "in one answer": Story(change={ACTIVE: until(HOUR, 1, until(2 * HOUR, 0, 1))}),
            "it has ended long ago": Story(change={ACTIVE: 0, END: -15 * DAY}),
        },
    ),
    Alert(
        name="BorgBaseFullAccessTokenAdded",
        summary="A BorgBase account has a new API token with full access.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS,
        fires={
            "one more": Firing(
                change={FULL: until(12 * MINUTE, 1, 2)},
                since=12 * MINUTE,
                description="Account acme has 2 API tokens with full access, more than before. "
                "Whoever holds one can delete every repo. If nobody created the new one on "
                "purpose, delete it at once, change the password and end all sessions.",
            )
        },
        silent={
            "one less": Story(change={FULL: until(HOUR, 2, 1)}),
            "one replaced": Story(change={FULL: until(HOUR, 1, until(2 * HOUR, 2, 1))}),
            "the list is not known any more": Story(change={FULL: until(HOUR, 1)}),
        },
    ),
]
