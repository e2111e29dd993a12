"""The desks: who is there, what they read, and how they type."""

from panels import (
    BLUE, DESKS, GREEN, ORANGE, RED, SCOPE, YELLOW, ZERO_IS_BETTER, ZERO_IS_WELL, Dashboard, Query, Row, bars, quantile, quantiles, rate, series, stat,
)  # fmt: skip

NOW = Row("Who is there", [
    stat("Desks that say hello", "none", "Desks from which workers have heard lately.", "fewer than people are at work.",
         f'max(autoreply_desks_open{{{SCOPE},state="fresh"}})', [(None, BLUE)]),
    stat("Fell silent", "none", "Desks that stopped saying hello without saying goodbye.",
         "any that somebody expects to work: its machine sleeps, lost its network, or the process was killed.",
         f'max(autoreply_desks_open{{{SCOPE},state="silent"}})', ZERO_IS_BETTER),
    stat("Longest silence", "s", "Age of the oldest last hello among desks that have not said goodbye.",
         "more than 45 s: its accounts may be taken over by another desk.",
         f"max(autoreply_desks_silent_seconds{{{SCOPE}}})", [(None, GREEN), (45, ORANGE)], decimals=0),
    stat("Cloned", "none", "Desks whose journal is used by another process as well: only the one started last types.",
         "any: a machine was copied with its data directory.", f'max(autoreply_desks_open{{{SCOPE},state="cloned"}})', ZERO_IS_WELL),
    stat("Left to a person", "none", "Turns on the desks that somebody has to look at.", "growing: nobody does.",
         f"sum(autoreply_attention_open{{{SCOPE}}})", ZERO_IS_BETTER),
    stat("Windows that are refused", "none", "Chat windows that fit a profile and are not read: two show the same chat, one is minimised, or "
         "the account is another desk's.", "any that a person expects to be answered.",
         f'sum(autoreply_chat_windows_open{{{SCOPE},state="refused"}})', ZERO_IS_BETTER),
])  # fmt: skip

THERE = Row("Desks", [
    series("Desks, by how they do", "none", "As the workers see them.", "silent or cloned above 0; fresh dropping while people are at work.",
           [Query(f"max by (state) (autoreply_desks_open{{{SCOPE}}})", "{{state}}")], stack=True,
           colours={"fresh": GREEN, "silent": ORANGE, "stopped": "gray", "cloned": RED}),
    series("Accounts and windows", "none", "Accounts that the desks answer for, and chat windows that they read or refuse.",
           "read dropping to 0 while chats are open: the profile no longer fits the application.",
           [Query(f"sum(autoreply_account_leases_open{{{SCOPE}}})", "accounts"),
            Query(f"sum by (state) (autoreply_chat_windows_open{{{SCOPE}}})", "windows {{state}}")]),
    series("Not finished on the desks", "none", "Turns in the journals that have not ended, and those left to a person.",
           "climbing: replies do not come from the workers, or cannot be typed.",
           [Query(f"sum(autoreply_journal_turns_open{{{SCOPE}}})", "turns"), Query(f"sum(autoreply_attention_open{{{SCOPE}}})", "left to a person")]),
])  # fmt: skip

READING = Row("Reading", [
    series("Messages and turns a second", "suffix: /s", "Messages seen for the first time; turns handed to the workers, and acknowledged by them.",
           "published without acknowledged: workers or Kafka are away. Detected without published: mode is off, or texts are doubted.",
           [rate("autoreply_messages_detected_total", legend="messages detected"), rate("autoreply_turns_published_total", legend="turns published"),
            rate("autoreply_turns_acknowledged_total", legend="turns acknowledged")]),
    series("Time of a look at a window", "s", "From pixels to aligned text.", "above 1 s: messages are seen late. The machine is too busy, or a "
           "pane is huge.", quantiles("autoreply_capture_look_seconds"), log=True),
    series("Time of character recognition", "s", "Of the changed rows of a look.", "above 1 s: many rows changed at once, or the machine is busy.",
           quantiles("autoreply_ocr_seconds")),
    series("How sure character recognition is", "percentunit", "Confidence that one message in ten, and half of them, stay below.",
           "the lower curve under the line: such messages become drafts for a person. Faint, small or coloured text, or a wrong language.",
           [Query(f"histogram_quantile({q}, sum by (le) (rate(autoreply_ocr_confidence_ratio_bucket{{{SCOPE}}}[$__rate_interval])))", name)
            for q, name in ((0.1, "one in ten"), (0.5, "half"))], steps=[(None, "transparent"), (0.7, RED)], low=0.4, high=1),
    series("Looks that failed", "suffix: /s", "Looks at a window that gave nothing, by desk.",
           "any that last: the window is covered, minimised or gone, or the profile does not fit.",
           [rate("autoreply_capture_errors_total", "instance", scope=DESKS)]),
    series("Outcomes told to the workers", "suffix: /s", "Outcomes handed over, and acknowledged.", "a gap between the curves that stays.",
           [rate("autoreply_outcomes_published_total", legend="published"), rate("autoreply_outcomes_acknowledged_total", legend="acknowledged")]),
])  # fmt: skip

TYPING = Row("Typing", [
    series("Time of each step, 95 of 100", "s", "Steps of typing a reply, with their waits.",
           "idle (people are at their desks), align or verify (the application shows lines late), type (long texts, slow applications).",
           [quantile(0.95, "autoreply_executor_step_seconds", "step")], width=12, height=10, log=True),
    bars("Time spent in each step", "s", "Seconds spent in each step, in the time that is shown.",
         "one step far ahead of the others: that is where replies wait.",
         Query(f"sort_desc(sum by (step) (increase(autoreply_executor_step_seconds_sum{{{SCOPE}}}[$__range])) > 0)", "{{step}}"), [(None, BLUE)], width=12, height=10),
    series("Not typed, by what became of it", "suffix: /s", "Replies that a desk ended without pressing the submit key.",
           "refused or failed growing: windows cannot be proven or typed into. superseded and human_replied are people who went on.",
           [rate("autoreply_executor_refusals_total", "effect", only_moving=True)], colours={"refused": RED, "failed": "dark-red", "superseded": "light-blue",
            "human_replied": BLUE, "expired": YELLOW}),
    series("Put back", "suffix: /s", "Attempts to type that gave way: to a person (busy), or after a fault before the submit key.",
           "fault growing: the application changed, or loses the focus.", [rate("autoreply_executor_put_back_total", "cause")]),
    series("Between the last proof and the key", "s", "The time that X11 leaves unguarded between the last proof of the window and the submit key.",
           "above 10 ms: another window could get the key. The machine is too busy.", quantiles("autoreply_submit_gap_seconds")),
])  # fmt: skip

KEEPING = Row("Keeping", [
    series("Size of the journal", "bytes", "By desk.", "growing beyond what retention should leave: an old process holds the file, or pruning fails.",
           [Query(f"autoreply_journal_bytes{{{DESKS}}}", "{{instance}}")], width=12),
    series("Copies of a journal at work", "none", "1 while another process works with a copy of this desk's journal.", "any.",
           [Query(f"autoreply_desk_cloned_info{{{DESKS}}}", "{{instance}}")], width=12, high=1),
])  # fmt: skip

DASHBOARD = Dashboard(
    "autoreply-desks", "desks", "autoreply: desks", "Who is there, what they read, and how they type.", [NOW, THERE, READING, TYPING, KEEPING],
)  # fmt: skip
