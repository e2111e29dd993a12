-- Every time in this schema is in milliseconds since the Unix epoch, by this server's clock, and comes from here: no
-- worker's clock decides about a lease.
create function ledger_now() returns bigint language sql volatile
    as $$ select floor(extract(epoch from clock_timestamp()) * 1000)::bigint $$;

-- Where each reply stands. Narrow, because every step of a reply writes its row anew; what does not change stands in
-- turns.
create table sagas (
    turn        uuid primary key,
    revision    bigint not null check (revision >= 1),
    state       text not null,
    effect      text,
    lease_token bigint not null,
    lease_owner text not null,
    lease_until bigint not null,
    deadline_at bigint not null,
    takeovers   integer not null,
    -- how many drafts it has had: the version of the newest
    drafts      integer not null,
    -- the day whose quota the current revision holds a reply of
    quota_day   bigint,
    -- whether turns, drafts or outbox hold chat text of it
    text_held   boolean not null default true,
    updated_at  bigint not null,
    check ((state = 'ended') = (effect is not null))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

create index sagas_lease on sagas (lease_until) where state in ('recorded', 'quota_reserved', 'drafted');
create index sagas_deadline on sagas (deadline_at) where state <> 'ended';
create index sagas_ended on sagas (text_held, updated_at) where state = 'ended';

-- What was said, and where.
create table turns (
    turn         uuid primary key,
    journal      uuid not null,
    desktop      text not null,
    conversation uuid not null,
    -- empty once forgotten
    peer         text not null,
    -- the record as JSON; null once its text is over age or forgotten. Not jsonb: nobody asks into it, and a text that
    -- holds \u0000 is kept as it came.
    body         text check (length(body) <= 1048576),
    recorded_at  bigint not null
);

create index turns_recorded on turns (recorded_at);
create index turns_peer on turns (peer);
create index turns_conversation on turns (conversation, recorded_at);

create table drafts (
    turn         uuid not null,
    version      integer not null check (version >= 1),
    revision     bigint not null,
    text         text,
    provider     text not null,
    ceiling      text not null,
    stored_at    bigint not null,
    discarded_at bigint,
    primary key (turn, version)
);

-- The story. Text of people is never in it. An id is looked for among the events of its turn.
create table events (
    number     bigint generated always as identity,
    id         uuid not null,
    turn       uuid not null,
    revision   bigint not null,
    at         bigint not null,
    who        text not null,
    event      text not null,
    state_from text,
    state_to   text not null,
    detail     text not null check (length(detail) <= 4096),
    primary key (turn, number)
);

create table outbox (
    entry        bigint generated always as identity primary key,
    -- the id of the event it was written with
    event        uuid not null,
    turn         uuid not null,
    revision     bigint not null,
    kind         text not null check (kind in ('send', 'withdraw')),
    -- null once forgotten or over age
    body         text,
    held_until   bigint not null,
    published_at bigint,
    cancelled_at bigint
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

create index outbox_pending on outbox (held_until) where published_at is null and cancelled_at is null;
create index outbox_turn on outbox (turn);

-- One row a revision that was to be answered: reserved, then used or released, once.
create table quota (
    turn     uuid not null,
    revision bigint not null,
    day      bigint not null,
    state    text not null check (state in ('reserved', 'used', 'released')),
    primary key (turn, revision)
) with (fillfactor = 80);

-- The hot row of the ledger: written once a group, and by so few columns that its page can hold many versions.
create table quota_days (
    day   bigint primary key,
    taken bigint not null check (taken >= 0)
) with (fillfactor = 10);

-- Outcomes that came before their turn.
create table orphans (
    turn     uuid not null,
    revision bigint not null,
    effect   text not null,
    body     text not null,
    at       bigint not null,
    primary key (turn, revision, effect)
);

create index orphans_at on orphans (at);
