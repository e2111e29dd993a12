-- The desktop's journal. Times are milliseconds since the Unix epoch on this desktop's clock; ids are 16 bytes.

create table journal (
    one integer primary key check (one = 1),
    id blob not null,
    -- How often the file has been opened: what was aligned in an earlier session is not aligned in this one.
    session integer not null default 0
) strict;

-- A row outlives `forget`: the counters must never start again, or a new turn would get an old turn's id.
create table conversations (
    id blob primary key,
    application text not null,
    network text not null,
    account text not null,
    peer text not null,
    kind text not null,
    mode text,
    trusted integer not null default 0,
    next_seq integer not null default 1,
    aligned_session integer not null default 0,
    in_a_row integer not null default 0,
    -- policy::turn::TurnState as JSON, and whether a turn lives in it.
    turns text not null default '{"last_number":0,"open":null,"out":null,"answered_through":0,"overtakes":0}',
    live integer not null default 0,
    look_digest integer,
    look_aligned integer,
    look_at_bottom integer,
    look_transcript text,
    look_at integer
) strict;

create table messages (
    conversation blob not null references conversations (id),
    seq integer not null,
    direction text not null,
    -- What became of an inbound message: joins, history, too_old, not_mentioned; echo for own text in another's guise.
    standing text not null,
    sender text not null,
    text text not null,
    stamp text,
    method text not null,
    confidence real not null,
    doubtful integer not null,
    detected_at integer not null,
    primary key (conversation, seq)
) strict, without rowid;

create table turns (
    id blob primary key,
    conversation blob not null references conversations (id),
    number integer not null,
    revision integer not null,
    doubtful integer not null default 0,
    -- It covers the joined messages above the first, up to the second.
    after_seq integer not null,
    last_seq integer not null,
    last_at integer not null,
    published_revision integer not null default 0,
    published_at integer,
    recorded_revision integer not null default 0,
    effect text,
    -- It ended before anything of it was published, and nothing of it may be.
    silent integer not null default 0,
    ended_at integer,
    unique (conversation, number)
) strict;
create index turns_unrecorded on turns (conversation) where recorded_revision < revision;

create table commands (
    turn blob not null,
    revision integer not null,
    conversation blob not null,
    state text not null check (state in ('queued', 'intent', 'submitting', 'ended')),
    body text not null,
    received_at integer not null,
    tried_at integer,
    not_before integer,
    attempts integer not null default 0,
    watermark integer,
    typed_at integer,
    submitted_at integer,
    own_seq integer,
    primary key (turn, revision)
) strict;
create index commands_live on commands (received_at) where state <> 'ended';
create index commands_submitted on commands (conversation, submitted_at) where submitted_at is not null;

create table outcomes (
    turn blob not null,
    revision integer not null,
    conversation blob not null,
    effect text not null,
    body text not null,
    -- Publications under way; an acknowledgement that belongs to an earlier text must not settle the later one.
    published_at integer,
    publications integer not null default 0,
    stale_acks integer not null default 0,
    acknowledged integer not null default 0,
    -- It may go before the ledger has acknowledged the turn.
    unheld integer not null default 0,
    made_at integer not null,
    primary key (turn, revision)
) strict;
create index outcomes_open on outcomes (made_at) where acknowledged = 0;

create table refused_commands (
    turn blob not null,
    revision integer not null,
    journal blob not null,
    reason text not null,
    at integer not null,
    primary key (turn, revision)
) strict;

create table controls (
    scope text primary key,
    version integer not null,
    mode text,
    halt text not null check (halt in ('none', 'pause', 'stop')),
    sent_by text not null,
    why text not null,
    at integer not null
) strict;

-- Automatic replies for which Enter was allowed: what the hourly cap counts.
create table sends (
    turn blob primary key,
    conversation blob not null,
    at integer not null
) strict;
create index sends_recent on sends (conversation, at);
