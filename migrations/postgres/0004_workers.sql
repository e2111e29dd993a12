-- The workers that run, by their own word: each writes its row anew every few seconds and takes it away when it stops.
-- A row that grows old belongs to one that died.
create table workers (
    instance    uuid primary key,
    name        text not null,
    host        text not null,
    version     text not null,
    -- by the worker's own clock
    started_at  bigint not null,
    interval_ms bigint not null,
    last_seen   bigint not null,
    -- what it counts, as JSON: another release may count more or less
    figures     text not null check (length(figures) <= 65536)
) with (fillfactor = 50);

-- Replies that were left to a person, so that those of the last day are counted without a look at all that ended.
create index if not exists sagas_attention on sagas (updated_at) where effect = 'needs_attention';
