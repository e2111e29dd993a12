-- Where the turn stands in its trace, as a W3C traceparent; the desk's word on whether it is recorded is in it. Null for a
-- turn without a trace, and for what an older worker recorded.
alter table turns add column traceparent text;
