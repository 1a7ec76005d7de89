-- Processes that serve, each as it last said of itself (JSON): what only it can see.
CREATE TABLE processes (
    id          TEXT   NOT NULL PRIMARY KEY,
    host        TEXT   NOT NULL,
    version     TEXT   NOT NULL,
    report      TEXT   NOT NULL,
    started_at  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL
);
