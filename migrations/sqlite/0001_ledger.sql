create table sagas (
    turn         text primary key,
    revision     integer not null check (revision >= 1),
    state        text not null,
    effect       text,
    journal      text not null,
    desktop      text not null,
    conversation text not null,
    peer         text not null,
    -- the record as JSON; null once its text is over age or forgotten
    body         text check (length(body) <= 1048576),
    lease_token  integer not null,
    lease_owner  text not null,
    lease_until  integer not null,
    deadline_at  integer not null,
    takeovers    integer not null default 0,
    recorded_at  integer not null,
    updated_at   integer not null,
    check ((state = 'ended') = (effect is not null))
) strict, without rowid;

create index sagas_lease on sagas (lease_until) where state in ('recorded', 'quota_reserved', 'drafted');
create index sagas_deadline on sagas (deadline_at) where state <> 'ended';
create index sagas_recorded on sagas (recorded_at);
create index sagas_ended on sagas (updated_at) where state = 'ended';
create index sagas_peer on sagas (peer);
create index sagas_conversation on sagas (conversation, recorded_at);

create table drafts (
    turn         text not null,
    version      integer not null check (version >= 1),
    revision     integer not null,
    text         text,
    provider     text not null,
    ceiling      text not null,
    stored_at    integer not null,
    discarded_at integer,
    primary key (turn, version),
    unique (turn, revision)
) strict, without rowid;

-- The story. Text of people is never in it.
create table events (
    number     integer primary key,
    id         text not null unique,
    turn       text not null,
    revision   integer not null,
    at         integer not null,
    who        text not null,
    event      text not null,
    state_from text,
    state_to   text not null,
    detail     text not null check (length(detail) <= 4096)
) strict;

create index events_turn on events (turn, number);

create table outbox (
    entry        integer primary key autoincrement,
    -- the id of the event it was written with
    event        text not null,
    turn         text not null,
    revision     integer not null,
    kind         text not null check (kind in ('send', 'withdraw')),
    -- null once forgotten or over age
    body         text,
    held_until   integer not null,
    published_at integer,
    cancelled_at integer
) strict;

create index outbox_pending on outbox (held_until) where published_at is null and cancelled_at is null;
create index outbox_turn on outbox (turn);
create index outbox_event on outbox (event);

-- One row a revision that was to be answered: reserved, then used or released, once.
create table quota (
    turn     text not null,
    revision integer not null,
    day      integer not null,
    state    text not null check (state in ('reserved', 'used', 'released')),
    primary key (turn, revision)
) strict, without rowid;

create table quota_days (
    day   integer primary key,
    taken integer not null check (taken >= 0)
) strict;

-- Outcomes that came before their turn.
create table orphans (
    turn     text not null,
    revision integer not null,
    effect   text not null,
    body     text not null,
    at       integer not null,
    primary key (turn, revision, effect)
) strict, without rowid;
