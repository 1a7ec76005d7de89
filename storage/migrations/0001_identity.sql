-- Organizations, projects, users and what lets them in. Names that are listed compare by bytes (COLLATE "C").
-- Times are unix seconds; secrets are hashes or ciphertext, never themselves.

CREATE TABLE orgs (
    id          TEXT   NOT NULL PRIMARY KEY,
    slug        TEXT COLLATE "C" NOT NULL UNIQUE,
    name        TEXT   NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE projects (
    id          TEXT    NOT NULL PRIMARY KEY,
    org_id      TEXT    NOT NULL REFERENCES orgs (id),
    slug        TEXT COLLATE "C" NOT NULL,
    -- Anybody may pull without logging in.
    public      BOOLEAN NOT NULL,
    -- Image manifests are taken although layers of theirs are not here.
    sparse      BOOLEAN NOT NULL,
    created_at  BIGINT  NOT NULL,
    UNIQUE (org_id, slug)
);

-- One person or machine, across all organizations. `name` is an e-mail or a machine's name, normalised.
CREATE TABLE users (
    id                   TEXT    NOT NULL PRIMARY KEY,
    name                 TEXT COLLATE "C" NOT NULL UNIQUE,
    kind                 TEXT    NOT NULL,
    -- Runs the platform; stands outside every organization.
    operator             BOOLEAN NOT NULL,
    password_hash        TEXT,
    must_change_password BOOLEAN NOT NULL,
    -- After this a temporary password no longer lets in.
    password_expires_at  BIGINT,
    -- Moves when whatever the user logged in with no longer counts: sessions, refresh tokens and access tokens end.
    epoch                BIGINT  NOT NULL,
    -- Moves when rights shrink: access tokens end.
    grants_epoch         BIGINT  NOT NULL,
    created_at           BIGINT  NOT NULL
);

CREATE TABLE memberships (
    org_id      TEXT    NOT NULL REFERENCES orgs (id),
    user_id     TEXT    NOT NULL REFERENCES users (id),
    active      BOOLEAN NOT NULL,
    created_at  BIGINT  NOT NULL,
    PRIMARY KEY (org_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id);

-- A user's rights in an organization are the union of these, while the membership is active.
CREATE TABLE bindings (
    id          TEXT   NOT NULL PRIMARY KEY,
    org_id      TEXT   NOT NULL,
    user_id     TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    -- NULL: the whole organization.
    project_id  TEXT   REFERENCES projects (id),
    -- A sorted JSON array of Kubernetes namespaces.
    namespaces  TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES memberships (org_id, user_id)
);
CREATE INDEX bindings_by_org ON bindings (org_id, id);
CREATE INDEX bindings_by_user ON bindings (user_id);
CREATE UNIQUE INDEX bindings_once ON bindings (org_id, user_id, role, COALESCE(project_id, ''), namespaces);

-- `ra2.<id>.<secret>`: the row holds the secret's SHA-256.
CREATE TABLE api_keys (
    id           TEXT   NOT NULL PRIMARY KEY,
    org_id       TEXT   NOT NULL,
    user_id      TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    secret_hash  TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    FOREIGN KEY (org_id, user_id) REFERENCES memberships (org_id, user_id)
);
CREATE INDEX api_keys_by_org ON api_keys (org_id, id);
CREATE INDEX api_keys_by_user ON api_keys (user_id);

-- Console sessions, by the SHA-256 of the cookie.
CREATE TABLE sessions (
    token_hash  TEXT   NOT NULL PRIMARY KEY,
    user_id     TEXT   NOT NULL REFERENCES users (id),
    epoch       BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_by_user ON sessions (user_id);

-- What docker keeps as its "identity token", by SHA-256.
CREATE TABLE refresh_tokens (
    token_hash   TEXT   NOT NULL PRIMARY KEY,
    user_id      TEXT   NOT NULL REFERENCES users (id),
    epoch        BIGINT NOT NULL,
    service      TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL
);
CREATE INDEX refresh_tokens_by_user ON refresh_tokens (user_id, last_used_at);
CREATE INDEX refresh_tokens_by_use ON refresh_tokens (last_used_at);

-- Failed password log-ins by a hash of the name that was typed, whether or not somebody goes by it.
CREATE TABLE login_failures (
    name_hash    TEXT   NOT NULL PRIMARY KEY,
    failures     BIGINT NOT NULL,
    first_at     BIGINT NOT NULL,
    last_at      BIGINT NOT NULL,
    locked_until BIGINT NOT NULL
);
CREATE INDEX login_failures_by_time ON login_failures (last_at);

-- Keys that sign access tokens. The private half is sealed under the master key; binary values are base64.
CREATE TABLE signing_keys (
    kid          TEXT   NOT NULL PRIMARY KEY,
    sealed       TEXT   NOT NULL,
    public_key   TEXT   NOT NULL,
    certificate  TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    -- Signs from this time on, until a younger key does.
    sign_from    BIGINT NOT NULL,
    -- Set once a younger key takes over: tokens are accepted until then.
    verify_until BIGINT
);
