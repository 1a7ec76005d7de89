-- Passes of the garbage collector that somebody asked for: a process that serves takes them, since it shares its commits with
-- those who push. A handful of rows.
CREATE TABLE gc_requests (
    id       TEXT   NOT NULL PRIMARY KEY,
    -- Seconds that unused blobs are kept.
    grace    BIGINT NOT NULL,
    -- When whoever collects last said so (unix seconds).
    taken_at BIGINT,
    ended_at BIGINT,
    -- What was done so far, a JSON document.
    report   TEXT   NOT NULL DEFAULT '',
    -- Why it broke off.
    problem  TEXT   NOT NULL DEFAULT ''
);
