"""Who writes the replies: how well, how fast, and for how much."""

from panels import (
    ALWAYS, BLUE, GREEN, JOB, ORANGE, RED, SCOPE, ZERO_IS_BETTER, Dashboard, Query, Row, bars, quantile, quantiles, rate, series, stat, states,
)  # fmt: skip

NOW = Row("Now", [
    stat("Providers left alone", "none", "Providers that are left alone after failures.", "any; the next of the chain answers meanwhile.",
         f"sum(max by (provider) (autoreply_provider_breaker_open{{{SCOPE}}}))", ZERO_IS_BETTER),
    stat("Worst share of errors", "percentunit", "The share of failed calls of the provider that fails most, over ten minutes.",
         "more than 10%: it is overloaded, refuses the key, or is out of credit.",
         f"max(autoreply:provider_error_share:ratio_rate10m{{{JOB}}})", [(None, GREEN), (0.1, ORANGE), (0.5, RED)], decimals=1),
    stat("Went on to another provider", "percentunit", "Share of drafts that had to go on to the next provider, over ten minutes.",
         "more than 10%: replies are slower, and may be worse or dearer.",
         f"max(autoreply:fallback_share:ratio_rate10m{{{JOB}}})", [(None, GREEN), (0.05, ORANGE), (0.1, RED)], decimals=1),
    stat("Slowest provider, 95 of 100", "s", "95 of 100 calls to the slowest provider end within this, over ten minutes.",
         "near its timeout (20 s by default).",
         f"max(autoreply:provider_seconds:p95_10m{{{JOB}}})", [(None, GREEN), (5, ORANGE), (15, RED)], decimals=1),
    stat("Cost of the last hour", "short", "What the tokens of the last hour cost by the prices of the settings, in their currency.",
         "more than you expect at this traffic.", f"sum(autoreply:provider_cost:increase1h{{{JOB}}})", ALWAYS, decimals=2),
    stat("Cost of 1,000 replies", "short", "Cost of the last hour for each 1,000 turns that were confirmed.",
         "growing at the same prices: contexts became longer, drafts are thrown away, or a dear provider answers for a cheap one.",
         f"1000 * sum(increase(autoreply_provider_cost_total{{{SCOPE}}}[1h])) / "
         f'sum(increase(autoreply_replies_total{{{SCOPE},effect="confirmed"}}[1h]))', ALWAYS, decimals=2),
])  # fmt: skip

WELL = Row("Are they well?", [
    states("Which provider was left alone when", "Each provider: called as usual, or left alone after failures and probed now and then.",
           "orange for longer than a few minutes: it does not come back by itself.",
           Query(f"max by (provider) (autoreply_provider_breaker_open{{{SCOPE}}})", "{{provider}}"),
           {0: ("called", GREEN), 1: ("left alone", ORANGE)}, width=8),
    series("Failed calls, by kind", "suffix: /s", "Calls that failed. declined is a provider that has nothing to say about a turn: no fault.",
           "permanent (key, model or credit), rate_limited (too much for the plan), timeout and transient (it is down or slow).",
           [rate("autoreply_provider_errors_total", "kind", only_moving=True)], stack=True),
    series("Share of failed calls", "percentunit", "Calls that failed (without declined) of all, over ten minutes.",
           "above 10% for one provider; all of them at once point to the workers' own network.",
           [Query(f"max by (provider) (autoreply:provider_error_share:ratio_rate10m{{{JOB}}})", "{{provider}}")], high=1),
    series("On to the next provider, by reason", "suffix: /s", "Times a turn went on to the next provider.",
           "resting and failed (it is down), full (too few calls at once are allowed), no_time (it is slow), rejected (bad replies).",
           [rate("autoreply_provider_fallbacks_total", "reason", only_moving=True)], stack=True),
    series("Replies that did not pass", "suffix: /s", "Replies of models that may not be sent, by reason.",
           "any leaked_instructions or secret: somebody tries to talk the model round. too_long or empty: wrong settings of the model.",
           [rate("autoreply_provider_rejections_total", "reason", only_moving=True)], stack=True),
    series("Drafts that nobody gave", "suffix: /s", "Turns for which no provider gave a reply: all failed (exhausted), or no time was left "
           "(deadline).", "any that last: these turns are left to a person.",
           [rate("autoreply_generation_errors_total", "kind")]),
])  # fmt: skip

FAST = Row("How fast are they?", [
    series("Time of a call, 95 of 100", "s", "By provider.", "a curve that climbs to its timeout: the server is overloaded.",
           [quantile(0.95, "autoreply_provider_seconds", "provider")]),
    series("Time of a call, half", "s", "By provider.", "climbing together with the one at the left: it is slow for everybody, not now and then.",
           [quantile(0.5, "autoreply_provider_seconds", "provider")]),
    series("Writing a draft", "s", "Time of a whole draft, with all attempts and providers.",
           "near the reply deadline (30 s by default).", quantiles("autoreply_generation_seconds")),
    series("Calls being made", "none", "Calls to each provider that run at this moment.",
           "flat at max_in_flight times workers: calls wait for a place, or go to the next provider.",
           [Query(f"sum by (provider) (autoreply_provider_calls_open{{{SCOPE}}})", "{{provider}}")], width=12),
    series("Calls a second", "suffix: /s", "Calls that ended, well or not.", "a provider that should be the first is not called.",
           [rate("autoreply_provider_seconds_count", "provider")], width=12),
])  # fmt: skip

COST = Row("What does it cost?", [
    series("Cost an hour", "suffix: /h", "At the pace of the moment, by provider, in the currency of the settings' prices.",
           "a curve that jumps without more traffic.",
           [Query(f"3600 * sum by (provider) (rate(autoreply_provider_cost_total{{{SCOPE}}}[$__rate_interval]))", "{{provider}}")], stack=True),
    series("Tokens a second", "suffix: /s", "Tokens that providers counted, by direction: input is what they read.",
           "input growing without more traffic: contexts became longer.",
           [Query(f"sum by (provider, direction) (rate(autoreply_provider_tokens_total{{{SCOPE}}}[$__rate_interval]))",
                  "{{provider}} {{direction}}")]),
    bars("Cost of the time that is shown", "short", "By provider.", "a dear provider that should only stand in has the longest bar.",
         Query(f"sort_desc(sum by (provider) (increase(autoreply_provider_cost_total{{{SCOPE}}}[$__range])))", "{{provider}}"), [(None, BLUE)]),
])  # fmt: skip

DASHBOARD = Dashboard(
    "autoreply-providers", "providers", "autoreply: providers and cost", "Who writes the replies: how well, how fast, and for how much.",
    [NOW, WELL, FAST, COST],
)  # fmt: skip
