-- Processes that serve, each as it last said of itself (JSON): what only it can see.
CREATE TABLE processes (
    id          TEXT   NOT NULL PRIMARY KEY,
    host        TEXT   NOT NULL,
    version     TEXT   NOT NULL,
    report      TEXT   NOT NULL,
    started_at  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL
);

-- What large organizations used when it was last counted; small ones are counted whenever somebody asks.
CREATE TABLE org_usage (
    org_id       TEXT   NOT NULL PRIMARY KEY,
    users        BIGINT NOT NULL,
    repositories BIGINT NOT NULL,
    bytes        BIGINT NOT NULL,
    counted_at   BIGINT NOT NULL
);

-- What the console's lists need without walking.

-- When a manifest was last pulled, whatever name it was asked for by, and (where `digest` is empty) anything of the
-- repository. Written in batches, beside the audit log's pulls; a table of its own, so that reading locks no row that pushes
-- write. It may outlive its manifest for as long as such a batch takes; the repository takes its rows along.
CREATE TABLE last_pulls (
    repository_id TEXT NOT NULL,
    digest        TEXT COLLATE "C" NOT NULL,
    pulled_at     BIGINT NOT NULL,
    pulled_by     TEXT   NOT NULL,
    PRIMARY KEY (repository_id, digest)
);

-- Bytes of the blobs that a manifest refers to; an index has those of its entries instead.
ALTER TABLE manifests ADD COLUMN content_size BIGINT NOT NULL DEFAULT 0;
UPDATE manifests SET content_size = COALESCE((
    SELECT CAST(SUM(b.size) AS BIGINT) FROM manifest_references x
    JOIN blob_links l ON l.repository_id = x.repository_id AND l.digest = x.target
    JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest
    WHERE x.repository_id = manifests.repository_id AND x.manifest = manifests.digest), 0);
-- Who moved a tag last.
ALTER TABLE tags ADD COLUMN pushed_by TEXT NOT NULL DEFAULT '';
UPDATE tags SET pushed_by = COALESCE((
    SELECT m.pushed_by FROM manifests m WHERE m.repository_id = tags.repository_id AND m.digest = tags.digest), '');

-- Newest first.
CREATE INDEX repositories_by_push ON repositories (org_id, pushed_at, name);
CREATE INDEX tags_by_age ON tags (repository_id, updated_at, name);
CREATE INDEX manifests_by_age ON manifests (repository_id, created_at, digest);

-- What happened on each day (days since 1970-01-01, in UTC), so that charts need no walk through the audit log. Pulls are counted
-- in the batches that journal them; bytes are the last that were measured on that day, each blob once. Rows are kept for about a
-- year. They go with what they are of.
CREATE TABLE repository_days (
    repository_id TEXT   NOT NULL,
    day           BIGINT NOT NULL,
    org_id        TEXT   NOT NULL,
    project_id    TEXT   NOT NULL,
    pulls         BIGINT NOT NULL,
    PRIMARY KEY (repository_id, day)
);
CREATE INDEX repository_days_by_org ON repository_days (org_id, day, pulls);
CREATE INDEX repository_days_by_project ON repository_days (project_id, day);
CREATE TABLE project_days (
    project_id    TEXT   NOT NULL,
    day           BIGINT NOT NULL,
    org_id        TEXT   NOT NULL,
    pulls         BIGINT NOT NULL,
    -- NULL: not measured on that day.
    bytes         BIGINT,
    PRIMARY KEY (project_id, day)
);
CREATE INDEX project_days_by_org ON project_days (org_id, day);
CREATE TABLE org_days (
    org_id        TEXT   NOT NULL,
    day           BIGINT NOT NULL,
    pulls         BIGINT NOT NULL,
    bytes         BIGINT,
    PRIMARY KEY (org_id, day)
);

-- The user's name once more, which never changes: members are listed by it.
ALTER TABLE memberships ADD COLUMN name TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE memberships SET name = (SELECT u.name FROM users u WHERE u.id = memberships.user_id);
CREATE INDEX memberships_by_name ON memberships (org_id, name);
