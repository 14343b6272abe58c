-- Run at each start: who made the schema before there were marks gets them, and those of servers
-- that are gone for good go.
CREATE TABLE IF NOT EXISTS commit_mark (
    writer TEXT NOT NULL PRIMARY KEY,  -- a server, from one start to the next
    number BIGINT NOT NULL,            -- its last transaction that is committed
    at     TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
DELETE FROM commit_mark WHERE at < now() - INTERVAL '7 days';
