"""What carries and keeps everything: Kafka, the ledger, Redis, the disks."""

from panels import (
    GREEN, JOB, ORANGE, RED, SCOPE, WORKERS, Dashboard, Query, Row, quantile, rate, series, stat, states,
)  # fmt: skip

NOW = Row("Now", [
    stat("Oldest waiting record", "s", "How long the oldest record in Kafka that is not done has been waiting.",
         "more than 10 s and growing.", f"max(autoreply:consumer_lag_seconds:max{{{JOB}}})", [(None, GREEN), (5, ORANGE), (10, RED)], decimals=1),
    stat("Records that wait", "none", "Records in Kafka that are not done.", "growing: more comes in than workers take.",
         f"sum(autoreply:consumer_lag_records:sum{{{JOB}}})", [(None, GREEN), (1000, ORANGE), (10000, RED)]),
    stat("Unreadable records", "none", "Records of the last hour that were put aside. autoreply dead-letters list shows them.", "any.",
         f"sum(increase(autoreply_dead_letters_total{{{SCOPE}}}[1h]))", [(None, GREEN), (0.5, ORANGE)], decimals=0),
    stat("Ledger away for", "s", "Since when the ledger has not answered a worker; 0 while it answers.",
         "more than a few seconds: nothing new is answered until it is back, and nothing is lost.",
         f"max(autoreply_ledger_unavailable_seconds{{{SCOPE}}})", [(None, GREEN), (1, ORANGE), (10, RED)], decimals=0),
    stat("Today's quota used", "percentunit", "Replies of today, of ledger.daily_quota.", "100%: turns end as capped.",
         f"max(autoreply:quota_used:max{{{JOB}}})", [(None, GREEN), (0.9, ORANGE), (1, RED)], decimals=0),
    stat("Least free disk", "percentunit", "Of the disks with the data of workers and desks, the one with the least room.",
         "less than 10%. A journal that cannot be written types nothing.",
         f"min(autoreply:disk_free:ratio{{{SCOPE}}})", [(None, RED), (0.03, ORANGE), (0.1, GREEN)], decimals=0),
])  # fmt: skip

KAFKA = Row("Kafka", [
    series("Waiting time of the oldest record", "s", "By topic.", "a curve that climbs: nobody reads that topic, or the ledger is away.",
           [Query(f"max by (topic) (autoreply_consumer_lag_seconds{{{SCOPE}}})", "{{topic}}")],
           steps=[(None, "transparent"), (10, RED)], soft=1),
    series("Records that wait, by topic", "none", "By topic, over all workers.", "climbing for minutes. A short heap after a restart is as it should be.",
           [Query(f"sum by (topic) (autoreply_consumer_lag_records{{{SCOPE}}})", "{{topic}}")], stack=True),
    series("Partitions dealt anew", "none", "How often the group gave each worker its partitions anew, in five minutes.",
           "again and again without a deployment: workers take too long for a poll, or lose the brokers.",
           [Query(f"increase(autoreply_consumer_rebalances_total{{{WORKERS}}}[5m])", "{{instance}}")]),
    series("Records that came again", "suffix: /s", "And were recognised, by who recognised them.",
           "a steady rate: offsets are not committed, or acknowledgements do not arrive.",
           [rate("autoreply_duplicates_suppressed_total", "at")]),
    series("Unreadable records, by worker", "none", "Put aside within five minutes, by worker.",
           "any. If every record is one, the worker stops by itself: a bad release must not empty the topic.",
           [Query(f"increase(autoreply_dead_letters_total{{{WORKERS}}}[5m])", "{{instance}}")]),
    series("Commands that Kafka has not got yet", "none", "Commands in the ledger's outbox that wait to be published.",
           "staying above 0: the brokers take nothing, or no worker recovers.",
           [Query(f"max(autoreply_commands_unpublished_open{{{SCOPE}}})", "commands")]),
])  # fmt: skip

LEDGER = Row("Ledger", [
    series("Time of a write, 95 of 100", "s", "Time to write one group, by what is written.",
           "above 0.1 s: the database's disk or its locks; above 1 s turns wait for it.",
           [quantile(0.95, "autoreply_ledger_write_seconds", "operation")], log=True),
    series("Writes a second", "suffix: /s", "Groups written, by what is written.", "dropping to 0 while records wait.",
           [rate("autoreply_ledger_write_seconds_count", "operation")]),
    series("Rows in a group", "none", "On average: under load more rows share a write.",
           "near 1 while writes are slow: grouping does not help.",
           [Query(f"sum by (operation) (rate(autoreply_ledger_group_size_sum{{{SCOPE}}}[$__rate_interval])) / "
                  f"(sum by (operation) (rate(autoreply_ledger_group_size_count{{{SCOPE}}}[$__rate_interval])) > 0)", "{{operation}}")]),
    series("Connections", "none", "Connections of the workers to the database, by what they do.",
           "in_use flat at ledger.pool_max times workers: writes wait for a connection.",
           [Query(f"sum by (state) (autoreply_ledger_connections{{{SCOPE}}})", "{{state}}")], stack=True),
    series("Ledger away, by worker", "s", "Since when the ledger has not answered, by worker.",
           "one worker alone: its network. All of them: the database.",
           [Query(f"autoreply_ledger_unavailable_seconds{{{WORKERS}}}", "{{instance}}")], steps=[(None, "transparent"), (10, RED)]),
    series("Quota used over the day", "percentunit", "Replies of today (UTC), used and reserved.", "a slope that reaches 100% before midnight.",
           [Query(f"max by (job) (autoreply_quota_used_ratio{{{WORKERS}}})", "{{job}}")], steps=[(None, "transparent"), (0.9, ORANGE), (1, RED)]),
])  # fmt: skip

REST = Row("Redis and disks", [
    states("Which worker kept limits of its own when", "While Redis is away, each worker counts rates by itself, and models see the screen alone.",
           "orange for longer than a restart of Redis.",
           Query(f"max by (instance) (autoreply_limits_local{{{WORKERS}}})", "{{instance}}"),
           {0: ("Redis", GREEN), 1: ("its own", ORANGE)}, width=8),
    series("Questions that Redis did not answer", "suffix: /s", "Questions about rates or memory that workers had to answer by themselves.",
           "any for long: Redis is down, slow, or refuses the password.",
           [rate("autoreply_limits_fallbacks_total", "instance", scope=WORKERS)]),
    series("Free disk", "percentunit", "Of the file system with the data, by process.", "below the line at 10%, or a slope that gets there.",
           [Query(f"autoreply:disk_free:ratio{{{SCOPE}}}", "{{job}} {{instance}}")], steps=[(None, "transparent"), (0.1, RED)], high=1),
])  # fmt: skip

DASHBOARD = Dashboard(
    "autoreply-kafka-ledger", "kafka-ledger", "autoreply: Kafka and ledger", "What carries and keeps everything.",
    [NOW, KAFKA, LEDGER, REST],
)  # fmt: skip
