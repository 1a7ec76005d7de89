-- Repositories, manifests, tags, blobs and uploads. Names that are listed compare by bytes (COLLATE "C").

-- A repository exists by its first push. `name` is the canonical spelling of RepoName.
CREATE TABLE repositories (
    id          TEXT   NOT NULL PRIMARY KEY,
    org_id      TEXT   NOT NULL REFERENCES orgs (id),
    project_id  TEXT   NOT NULL REFERENCES projects (id),
    name        TEXT COLLATE "C" NOT NULL UNIQUE,
    created_at  BIGINT NOT NULL,
    pushed_at   BIGINT NOT NULL
);
CREATE INDEX repositories_by_org ON repositories (org_id, name);
CREATE INDEX repositories_by_project ON repositories (project_id, name);

-- Bytes of an organization, by digest. `object_key` names the object that holds them.
CREATE TABLE blobs (
    org_id      TEXT   NOT NULL REFERENCES orgs (id),
    digest      TEXT   NOT NULL,
    size        BIGINT NOT NULL,
    object_key  TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    -- Set while nothing links to the blob and it waits to be taken away; any new link clears it.
    doomed_at   BIGINT,
    -- Set by verify where the bytes are missing or wrong: not served, healed by the next push of the same digest.
    damaged_at  BIGINT,
    PRIMARY KEY (org_id, digest)
);
CREATE UNIQUE INDEX blobs_by_object ON blobs (object_key);
CREATE INDEX blobs_doomed ON blobs (doomed_at) WHERE doomed_at IS NOT NULL;

-- A blob is readable in a repository only through its link. The lease keeps a link that no manifest uses yet.
CREATE TABLE blob_links (
    repository_id TEXT   NOT NULL REFERENCES repositories (id),
    digest        TEXT   NOT NULL,
    org_id        TEXT   NOT NULL,
    lease_until   BIGINT NOT NULL,
    PRIMARY KEY (repository_id, digest),
    FOREIGN KEY (org_id, digest) REFERENCES blobs (org_id, digest)
);
CREATE INDEX blob_links_by_blob ON blob_links (org_id, digest);

-- Manifests, byte for byte.
CREATE TABLE manifests (
    repository_id TEXT   NOT NULL REFERENCES repositories (id),
    digest        TEXT COLLATE "C" NOT NULL,
    media_type    TEXT   NOT NULL,
    size          BIGINT NOT NULL,
    subject       TEXT,
    -- What the referrers API says of it: its own artifactType, else config.mediaType; annotations as JSON text.
    artifact_type TEXT,
    annotations   TEXT,
    created_at    BIGINT NOT NULL,
    pushed_by     TEXT   NOT NULL,
    payload       BYTEA  NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repository_id, subject, digest) WHERE subject IS NOT NULL;

-- What a manifest refers to: its config and layers (blobs) and the entries of an index (manifests, or blobs).
CREATE TABLE manifest_references (
    repository_id TEXT NOT NULL,
    manifest      TEXT NOT NULL,
    target        TEXT NOT NULL,
    PRIMARY KEY (repository_id, manifest, target),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest) ON DELETE CASCADE
);
CREATE INDEX manifest_references_by_target ON manifest_references (repository_id, target);

CREATE TABLE tags (
    repository_id TEXT   NOT NULL REFERENCES repositories (id),
    name          TEXT COLLATE "C" NOT NULL,
    digest        TEXT   NOT NULL,
    updated_at    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest) ON DELETE CASCADE
);
CREATE INDEX tags_by_digest ON tags (repository_id, digest);

-- Upload sessions. `received` bytes are durable in the object, and `hash_state` is the digest's state after them.
CREATE TABLE uploads (
    id            TEXT   NOT NULL PRIMARY KEY,
    org_id        TEXT   NOT NULL REFERENCES orgs (id),
    project_id    TEXT   NOT NULL REFERENCES projects (id),
    repository    TEXT   NOT NULL,
    -- Who began it and by which credential, so that revoking either ends it.
    user_id       TEXT   NOT NULL,
    api_key_id    TEXT,
    epochs        TEXT   NOT NULL,
    object_key    TEXT   NOT NULL,
    received      BIGINT NOT NULL,
    algorithm     TEXT   NOT NULL,
    hash_state    BYTEA,
    -- The request that may write now, and until when if it does not say that it still lives.
    writer        TEXT,
    writer_until  BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL
);
CREATE INDEX uploads_by_expiry ON uploads (expires_at);
CREATE INDEX uploads_by_repository ON uploads (repository, expires_at);
CREATE INDEX uploads_by_user ON uploads (user_id, expires_at);
CREATE UNIQUE INDEX uploads_by_object ON uploads (object_key);

-- Links to look at: fed by everything that may have taken a blob's last use away.
CREATE TABLE gc_links (
    repository_id TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    review_after  BIGINT NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX gc_links_due ON gc_links (review_after);

-- Objects whose rows are gone: their bytes may be taken away after `delete_after`.
CREATE TABLE gc_objects (
    object_key   TEXT   NOT NULL PRIMARY KEY,
    delete_after BIGINT NOT NULL
);
CREATE INDEX gc_objects_due ON gc_objects (delete_after);
