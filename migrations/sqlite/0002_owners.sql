-- The desks that said hello, by their journal: a copied journal shows as two processes of one row.
create table desks (
    journal       text primary key,
    desktop       text not null,
    -- the newest process, with its start and its last hello on its own clock
    instance      text not null,
    started_at    integer not null,
    said_at       integer not null,
    version       text not null,
    host          text not null,
    interval_ms   integer not null,
    first_seen    integer not null,
    last_seen     integer not null,
    stopped       integer not null default 0,
    -- another process of the same journal, with its last hello on its own clock
    other         text,
    other_said_at integer,
    cloned_at     integer
) strict, without rowid;

-- Who answers for an account: a lease on this ledger's clock.
create table owners (
    application  text not null,
    network      text not null,
    account      text not null,
    desktop      text not null,
    journal      text not null,
    -- null for a desk that says no hello
    instance     text,
    -- the journal's very file on its machine: whoever has it open next knows that this process has ended
    seat         text not null,
    token        integer not null,
    since        integer not null,
    until        integer not null,
    former_until integer not null,
    primary key (application, network, account)
) strict, without rowid;

create index owners_journal on owners (journal);

-- The ownership under which the turn was recorded; its reply carries it. Null for a desk that says no hello.
alter table sagas add column owner_token integer;

-- When each step of an outcome happened on the desk, as JSON.
alter table events add column times text;
