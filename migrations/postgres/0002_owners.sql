-- The desks that said hello, by their journal: a copied journal shows as two processes of one row.
create table desks (
    journal       uuid primary key,
    desktop       text not null,
    -- the newest process, with its start and its last hello on its own clock
    instance      uuid not null,
    started_at    bigint not null,
    said_at       bigint not null,
    version       text not null,
    host          text not null,
    interval_ms   bigint not null,
    first_seen    bigint not null,
    last_seen     bigint not null,
    stopped       boolean not null,
    -- another process of the same journal, with its last hello on its own clock
    other         uuid,
    other_said_at bigint,
    cloned_at     bigint
) with (fillfactor = 50);

-- Who answers for an account: a lease on this server's clock.
create table owners (
    application  text not null,
    network      text not null,
    account      text not null,
    desktop      text not null,
    journal      uuid not null,
    -- null for a desk that says no hello
    instance     uuid,
    -- the journal's very file on its machine: whoever has it open next knows that this process has ended
    seat         text not null,
    token        bigint not null,
    since        bigint not null,
    until        bigint not null,
    former_until bigint not null,
    primary key (application, network, account)
) with (fillfactor = 50);

-- The ownership under which the turn was recorded; its reply carries it. Null for a desk that says no hello, and for
-- what an older worker recorded.
alter table turns add column owner_token bigint;

-- When each step of an outcome happened on the desk, as JSON.
alter table events add column times text;
