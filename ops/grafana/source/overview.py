"""Is it well, and what hurts now?"""

from panels import (
    ALWAYS, BLUE, GREEN, JOB, ORANGE, RED, SCOPE, YELLOW, ZERO_IS_BETTER, ZERO_IS_WELL, Dashboard, Query, Row, quantiles, rate,
    series, stat, states, table,
)  # fmt: skip

REPLIES, PROVIDERS, KAFKA, DESKS = "autoreply-replies", "autoreply-providers", "autoreply-kafka-ledger", "autoreply-desks"

WELL = Row("Is it well?", [
    stat("Processes that are well", "percentunit", "Processes that say they are ready, of all that Prometheus knows.",
         "less than 100%: one of them cannot work, or does not answer. Below is which.",
         f"sum(autoreply_health_ok{{{SCOPE}}}) / count(up{{{SCOPE}}})", [(None, RED), (0.75, ORANGE), (1, GREEN)], decimals=0),
    stat("Alerts that fire", "none", "How many alerts fire now.", "any. Below is which; each has a runbook in ops/runbooks.",
         'count(ALERTS{alertname=~"Autoreply.*",alertstate="firing"}) or vector(0)', ZERO_IS_WELL),
    stat("Turns that ended in time", "percentunit", "Of the turns that ended within the last hour, those that did so within their "
         "deadline. 99.9% are promised.", "less than 99.9%: people wait, or are not answered.",
         f"1 - max(autoreply:slo_missed:ratio_rate1h{{{JOB}}})", [(None, RED), (0.9856, ORANGE), (0.999, GREEN)], decimals=2, more=REPLIES),
    stat("Turns that ended badly", "percentunit", "Turns of the last ten minutes that failed, were refused, cannot be proven to have "
         "been sent, or were left to a person.", "more than 5%.",
         f"max(autoreply:error_share:ratio_rate10m{{{JOB}}})", [(None, GREEN), (0.02, ORANGE), (0.05, RED)], decimals=1, more=REPLIES),
    stat("Reply after quiet, 95 of 100", "s", "Time from a chat's falling quiet to the reply's being seen in it, which 95 of 100 replies of "
         "the last ten minutes did not exceed.", "more than 10 s.",
         f"max(autoreply:reply_after_quiet_seconds:p95_10m{{{JOB}}})", [(None, GREEN), (5, ORANGE), (10, RED)], decimals=1, more=REPLIES),
    stat("Replies overdue", "none", "Replies that are past their deadline and have not ended.",
         "any that stay: workers are gone or stuck, or a desk does not answer.",
         f"max(autoreply:sagas_overdue:max{{{JOB}}})", ZERO_IS_WELL, more=REPLIES),
    stat("Oldest waiting record", "s", "How long the oldest record in Kafka that is not done has been waiting.",
         "more than 10 s and growing: workers are too few, gone, or wait for the ledger.",
         f"max(autoreply:consumer_lag_seconds:max{{{JOB}}})", [(None, GREEN), (5, ORANGE), (10, RED)], decimals=1, more=KAFKA),
    stat("Providers left alone", "none", "Providers of replies that are left alone after failures.",
         "any; the next of the chain answers meanwhile.",
         f"sum(max by (provider) (autoreply_provider_breaker_open{{{SCOPE}}}))", ZERO_IS_BETTER, more=PROVIDERS),
    stat("Desks that fell silent", "none", "Desks that stopped saying hello without saying goodbye.",
         "any that somebody expects to work: its machine sleeps, or lost its network.",
         f'max(autoreply:desks_open:max{{{JOB},state="silent"}})', ZERO_IS_BETTER, more=DESKS),
    stat("Unreadable records", "none", "Records of the last hour that could not be read and were put aside.",
         "any: a release writes what another cannot read, or something else writes to the topics.",
         f"sum(increase(autoreply_dead_letters_total{{{SCOPE}}}[1h]))", [(None, GREEN), (0.5, ORANGE)], decimals=0, more=KAFKA),
    stat("Today's quota used", "percentunit", "How much of today's quota of replies is used.",
         "100%: until midnight UTC turns end as capped. Look for two automatic sides that talk with each other.",
         f"max(autoreply:quota_used:max{{{JOB}}})", [(None, GREEN), (0.9, ORANGE), (1, RED)], decimals=0, more=KAFKA),
    stat("Cost of the last hour", "short", "What the tokens of the last hour cost by the prices of the settings, in their currency.",
         "more than you expect at this traffic: long contexts, or a dear provider that answers for a cheap one.",
         f"sum(autoreply:provider_cost:increase1h{{{JOB}}})", ALWAYS, decimals=2, more=PROVIDERS),
])  # fmt: skip

HURTS = Row("What hurts now", [
    table("Alerts that fire, or will if it goes on", "Each alert that fires (firing) or is about to (pending), with what it is about.",
          "anything with firing and critical: people go unanswered now, or soon will. Open ops/runbooks/ALERT.md.",
          'ALERTS{alertname=~"Autoreply.*"}',
          {"alertstate": "State", "alertname": "Alert", "severity": "Severity", "job": "Role", "instance": "Process", "provider": "Provider",
           "topic": "Topic"},
          colours={"State": {"firing": RED, "pending": ORANGE}, "Severity": {"critical": RED, "warning": ORANGE}}),
    states("Which process was well when", "Each process by what it says about itself. A gap: Prometheus could not ask it.",
           "red: it runs and cannot work (its ledger or journal does not answer, or its group has not let it in). A gap that stays: it is gone.",
           Query(f"min by (job, instance) (autoreply_health_ok{{{SCOPE}}})", "{{job}} {{instance}}"),
           {0: ("not ready", RED), 1: ("well", GREEN)}),
])  # fmt: skip

FLOW = Row("Traffic and time", [
    series("Turns a second", "suffix: /s", "Turns for which a draft was made or tried, turns that ended, and those that ended with a "
           "reply seen in the chat.", "drafts without ends (desks do not answer), or ends without confirmed replies.",
           [rate("autoreply_generation_seconds_count", legend="drafted"), rate("autoreply_replies_total", legend="ended"),
            rate("autoreply_replies_total", legend="confirmed", scope=SCOPE + ',effect="confirmed"')]),
    series("What became of turns", "suffix: /s", "Turns that ended, by what became of them.",
           "failed, refused, unverifiable or needs_attention growing. What people decided (off, rejected, human_replied) is no fault.",
           [rate("autoreply_replies_total", "effect", only_moving=True)], stack=True, colours={
               "confirmed": GREEN, "failed": RED, "refused": "dark-red", "unverifiable": ORANGE, "needs_attention": "dark-orange",
               "expired": YELLOW, "human_replied": BLUE, "superseded": "light-blue", "off": "gray"}),
    series("From quiet to a reply in the chat", "s", "Time from a chat's falling quiet to the reply's being seen in it.",
           "the middle curve above the line at 10 s. If only the upper one is, single turns wait for a person at the desk.",
           quantiles("autoreply_reply_after_quiet_seconds"), steps=[(None, "transparent"), (10, RED)]),
    series("Replies under way, by state", "none", "Replies that have not ended, by how far they are.",
           "recorded or drafted that pile up (workers), issued that pile up (desks), awaiting_approval that nobody looks at.",
           [Query(f"max by (state) (autoreply_sagas_open{{{SCOPE}}})", "{{state}}")], stack=True),
    series("Share of turns that missed their deadline", "percentunit", "Over five minutes and over an hour. The line is the pace at "
           "which a month's allowance (0.1%) would be gone in two days.", "both curves above the line: AutoreplySloBurnFast fires.",
           [Query(f"max(autoreply:slo_missed:ratio_rate5m{{{JOB}}})", "5 minutes"),
            Query(f"max(autoreply:slo_missed:ratio_rate1h{{{JOB}}})", "1 hour")],
           steps=[(None, "transparent"), (0.0144, RED)], soft=0.02),
    series("Waiting time of the oldest record", "s", "By topic: how long the oldest record that is not done has been waiting.",
           "a curve that climbs and does not come down: nobody reads that topic, or the ledger is away.",
           [Query(f"max by (topic) (autoreply_consumer_lag_seconds{{{SCOPE}}})", "{{topic}}")],
           steps=[(None, "transparent"), (10, RED)]),
])  # fmt: skip

RUNS = Row("What runs", [
    table("Versions", "Every process with its role and the version that it runs.",
          "more than two versions, or two for longer than a rollout takes.",
          f"autoreply_build_info{{{SCOPE}}}", {"job": "Role", "instance": "Process", "version": "Version"}, width=8, height=6),
    stat("Allowance left", "percentunit", "What is left of the 0.1% of turns that may miss their deadline in 30 days. It means what it says "
         "after 30 days of data.", "0 or less: what was promised for the month is broken.",
         f"min(autoreply:slo_budget_left:ratio_30d{{{JOB}}})", [(None, RED), (0.0, ORANGE), (0.25, GREEN)], decimals=0, height=6, more=REPLIES),
    series("Memory", "bytes", "Memory of each process.", "a curve that only ever climbs, or one that nears its container's limit.",
           [Query(f"process_resident_memory_bytes{{{SCOPE}}}", "{{job}} {{instance}}")], width=6, height=6),
    series("Spans of traces", "suffix: /s", "What went to the collector of traces, and what was lost on the way. Both are 0 where no "
           "collector is set.", "any that are lost: the collector is away or too slow. Replies do not wait for it.",
           [rate("autoreply_spans_exported_total", legend="delivered"), rate("autoreply_spans_dropped_total", legend="lost")],
           width=6, height=6, colours={"lost": RED}),
])  # fmt: skip

DASHBOARD = Dashboard(
    "autoreply-overview", "overview", "autoreply: overview", "Is it well, and what hurts now? The rest is in the other dashboards.",
    [WELL, HURTS, FLOW, RUNS],
)  # fmt: skip
