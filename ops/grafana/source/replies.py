"""What becomes of turns, how long it takes, and where replies stand."""

from panels import (
    BLUE, GREEN, JOB, ORANGE, RED, SCOPE, WORKERS, YELLOW, ZERO_IS_BETTER, ZERO_IS_WELL, Dashboard, Query, Row, bars, quantile, quantiles, rate,
    series, stat,
)  # fmt: skip

EFFECTS = {"confirmed": GREEN, "failed": RED, "refused": "dark-red", "unverifiable": ORANGE, "needs_attention": "dark-orange",
           "expired": YELLOW, "human_replied": BLUE, "superseded": "light-blue", "off": "gray"}  # fmt: skip

NOW = Row("Now", [
    stat("Answered in the chat", "percentunit", "Of the turns that ended within the last hour, those whose reply was seen in the right chat.",
         "less than usual. Which effect grew instead stands below.",
         f'sum(increase(autoreply_replies_total{{{SCOPE},effect="confirmed"}}[1h])) / sum(increase(autoreply_replies_total{{{SCOPE}}}[1h]))',
         [(None, RED), (0.5, ORANGE), (0.7, GREEN)], decimals=1),
    stat("Under way", "none", "Replies that have not ended.", "many more than are begun in a minute: something does not move on.",
         f"sum(max by (state) (autoreply_sagas_open{{{SCOPE}}}))", [(None, BLUE)]),
    stat("In workers' hands", "none", "Turns that workers draft at this moment.",
         "near the limit saga.permits of a worker: models are slow, and new turns wait.",
         f"sum(autoreply_turns_in_flight_open{{{SCOPE}}})", [(None, BLUE), (4000, RED)]),
    stat("Wait for a person", "none", "Drafts that wait for somebody's approval.",
         "any that nobody looks at: they end as expired. autoreply sagas list shows them.",
         f'max(autoreply_sagas_open{{{SCOPE},state="awaiting_approval"}})', ZERO_IS_BETTER),
    stat("Overdue", "none", "Replies past their deadline that have not ended.", "any that stay: see where they stand, below.",
         f"max(autoreply_sagas_overdue_open{{{SCOPE}}})", ZERO_IS_WELL),
    stat("Recognised repetitions", "none", "Records of the last 15 minutes that came again and were recognised: nobody was answered twice.",
         "many without a restart: acknowledgements do not arrive, or workers lose their partitions over and over.",
         f"sum(increase(autoreply_duplicates_suppressed_total{{{SCOPE}}}[15m]))", [(None, GREEN), (20, ORANGE)], decimals=0),
])  # fmt: skip

ENDS = Row("How turns end", [
    series("What became of turns", "suffix: /s", "Turns that ended, by what became of them.",
           "failed, refused, unverifiable or needs_attention growing. What people decided (off, rejected, human_replied) is no fault.",
           [rate("autoreply_replies_total", "effect", only_moving=True)], stack=True, colours=EFFECTS, width=12),
    bars("What became of turns, in all", "none", "How many turns ended how, in the time that is shown.",
         "long bars of failed, refused, unverifiable or needs_attention.",
         Query(f"sort_desc(sum by (effect) (increase(autoreply_replies_total{{{SCOPE}}}[$__range])) > 0)", "{{effect}}"), [(None, BLUE)], width=6),
    series("Badly ended share", "percentunit", "Share of turns that failed, were refused, cannot be proven, or were left to a person, over "
           "ten minutes.", "above the line at 5%: AutoreplyErrorShareHigh fires.",
           [Query(f"max by (job) (autoreply:error_share:ratio_rate10m{{{JOB}}})", "{{job}}")], width=6,
           steps=[(None, "transparent"), (0.05, RED)], soft=0.06),
])  # fmt: skip

TIME = Row("How long it takes", [
    series("From quiet to a reply in the chat", "s", "Confirmed replies: time from the chat's falling quiet to the own line's being seen.",
           "95 of 100 above the line at 10 s.", quantiles("autoreply_reply_after_quiet_seconds"),
           steps=[(None, "transparent"), (10, RED)]),
    series("From the last message to the end, by effect", "s", "95 of 100 turns had ended so long after their last message was seen.",
           "confirmed growing; the others show how long people are left waiting for nothing.",
           [quantile(0.95, "autoreply_reply_seconds", "effect")], log=True, colours=EFFECTS),
    series("Writing a draft", "s", "Time from the beginning of a draft to its text, or to the end of the chain of providers.",
           "near the reply deadline (30 s by default): turns fail for lack of time.",
           quantiles("autoreply_generation_seconds")),
    series("Turns that ended, and in time", "suffix: /s", "The promise: 99.9% of turns end within their deadline.",
           "a gap between the two curves.",
           [rate("autoreply_turns_due_total", legend="ended"), rate("autoreply_turns_kept_total", legend="ended in time")]),
    series("Share of turns that missed their deadline", "percentunit", "Over several windows. At 1.44% a month's allowance is gone in two "
           "days, at 0.6% in five.", "the curves of 5 minutes and of an hour above 1.44%, or those of 30 minutes and six hours above 0.6%.",
           [Query(f"max(autoreply:slo_missed:ratio_rate{window}{{{JOB}}})", name) for window, name in
            (("5m", "5 minutes"), ("30m", "30 minutes"), ("1h", "1 hour"), ("6h", "6 hours"), ("3d", "3 days"))],
           steps=[(None, "transparent"), (0.006, ORANGE), (0.0144, RED)], soft=0.02),
    stat("Allowance left of 30 days", "percentunit", "What is left of the 0.1% of turns that may miss their deadline.",
         "0 or less. It means what it says after 30 days of data.",
         f"min(autoreply:slo_budget_left:ratio_30d{{{JOB}}})", [(None, RED), (0.0, ORANGE), (0.25, GREEN)], decimals=0, height=8),
    stat("Missed in the last hour", "none", "Turns that ended after their deadline.", "five or more: an alert may follow.",
         f"sum(autoreply:slo_missed:increase1h{{{JOB}}})", [(None, GREEN), (1, ORANGE), (5, RED)], decimals=0, height=8),
])  # fmt: skip

STAND = Row("Where replies stand", [
    series("Replies under way, by state", "none", "From the ledger: replies that have not ended, by how far they are.",
           "recorded or drafted that pile up (workers, ledger), issued that pile up (desks).",
           [Query(f"max by (state) (autoreply_sagas_open{{{SCOPE}}})", "{{state}}")], stack=True, width=6),
    series("The oldest in each state", "s", "How long the reply that has stood longest in a state has stood in it.",
           "recorded or drafted for longer than a lease (45 s): nobody takes it over. issued for longer than a reply lives on a desk (120 s).",
           [Query(f"max by (state) (autoreply_sagas_oldest_seconds{{{SCOPE}}})", "{{state}}")], width=6),
    series("Overdue and unpublished", "none", "Replies past their deadline, and commands in the ledger that Kafka has not got yet.",
           "either of them staying above 0. Unpublished: Kafka does not take records, or no worker recovers.",
           [Query(f"max(autoreply_sagas_overdue_open{{{SCOPE}}})", "overdue"),
            Query(f"max(autoreply_commands_unpublished_open{{{SCOPE}}})", "commands not published")], width=6),
    series("In each worker's hands", "none", "Turns that each worker drafts at this moment.",
           "one worker with all of them (the others have no partitions), or all near saga.permits.",
           [Query(f"autoreply_turns_in_flight_open{{{WORKERS}}}", "{{instance}}")], width=6),
    series("Undone", "suffix: /s", "Steps that were taken back: drafts dropped with their quota (abandon), issued replies asked back "
           "(withdraw), turns handed to a person (hand_over).", "hand_over growing: providers fail, or desks do not answer.",
           [rate("autoreply_compensations_total", "step")]),
    series("Held back by a guard", "suffix: /s", "Times a rule held a reply back or demanded a person, by rule.",
           "validation growing (a model writes what may not be sent), limits_away (Redis), quota.",
           [rate("autoreply_guards_total", "guard")]),
    series("Recognised repetitions over time", "suffix: /s", "Records that came again and were recognised, by who recognised them.",
           "a steady rate without restarts. After a restart or a rebalance some are as it should be.",
           [rate("autoreply_duplicates_suppressed_total", "at")]),
])  # fmt: skip

DASHBOARD = Dashboard(
    "autoreply-replies", "replies", "autoreply: replies and sagas", "What becomes of turns, how long it takes, and where replies stand.",
    [NOW, ENDS, TIME, STAND],
)  # fmt: skip
