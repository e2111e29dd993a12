-- The workers that run, by their own word: each writes its row anew every few seconds and takes it away when it stops.
-- A row that grows old belongs to one that died.
create table workers (
    instance    text primary key,
    name        text not null,
    host        text not null,
    version     text not null,
    started_at  integer not null,
    interval_ms integer not null,
    last_seen   integer not null,
    -- what it counts, as JSON: another release may count more or less
    figures     text not null check (length(figures) <= 65536)
) strict, without rowid;

-- Replies that were left to a person, so that those of the last day are counted without a look at all that ended.
create index sagas_attention on sagas (updated_at) where effect = 'needs_attention';
