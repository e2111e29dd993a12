-- Why a reply was asked back while keys were being pressed for it; the fence before Enter stops it.
alter table commands add column withdrawn text;
