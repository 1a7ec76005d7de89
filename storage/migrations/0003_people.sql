-- Groups, custom roles, second factors, invitations, trusted issuers, mails, organization settings, and the audit log.
-- Times are unix seconds but where a name ends in _ms; secrets are hashes or ciphertext, never themselves.

-- What an organization decided for itself, and its life: 'active', 'suspended' (no door opens), 'deleting'.
ALTER TABLE orgs ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
-- What it was before its deletion was asked for.
ALTER TABLE orgs ADD COLUMN status_before TEXT;
-- When a deletion that was asked for takes everything away.
ALTER TABLE orgs ADD COLUMN delete_after BIGINT;
ALTER TABLE orgs ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE orgs ADD COLUMN lockout_enabled BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE orgs ADD COLUMN lockout_failures BIGINT NOT NULL DEFAULT 5;
ALTER TABLE orgs ADD COLUMN lockout_minutes BIGINT NOT NULL DEFAULT 15;
-- NULL: sessions end by age alone.
ALTER TABLE orgs ADD COLUMN idle_logout_minutes BIGINT;
ALTER TABLE orgs ADD COLUMN session_hours BIGINT NOT NULL DEFAULT 24;
ALTER TABLE orgs ADD COLUMN mfa_required BOOLEAN NOT NULL DEFAULT FALSE;
-- Longest validity of new API keys; NULL: without bound.
ALTER TABLE orgs ADD COLUMN key_valid_days BIGINT;
ALTER TABLE orgs ADD COLUMN public_allowed BOOLEAN NOT NULL DEFAULT TRUE;
-- NULL: audit events are kept for ever.
ALTER TABLE orgs ADD COLUMN audit_days BIGINT;

ALTER TABLE projects ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE projects ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- A person proved that the address is theirs: by a mailed temporary password, or a mailed link.
ALTER TABLE users ADD COLUMN verified BOOLEAN NOT NULL DEFAULT FALSE;
-- The second factor by TOTP. The secret is sealed under the master key; it counts once it was confirmed.
ALTER TABLE users ADD COLUMN totp_sealed TEXT;
ALTER TABLE users ADD COLUMN totp_confirmed_at BIGINT;
-- The last time step that a code was taken of: none is taken twice (RFC 6238 §5.2).
ALTER TABLE users ADD COLUMN totp_last_step BIGINT NOT NULL DEFAULT 0;
-- Whoever was here before mails could be sent has chosen their password by hand.
UPDATE users SET verified = TRUE WHERE must_change_password = FALSE;
-- Machines belong to one organization, and so do their names: the row's name is `<name>:<org id>`; no name has a colon. A machine
-- that was in several becomes one in each, with what it had there.
INSERT INTO users (id, name, kind, operator, must_change_password, epoch, grants_epoch, created_at)
    SELECT m.user_id || '-' || m.org_id, u.name || ':' || m.org_id, 'machine', FALSE, FALSE, 1, 1, m.created_at
    FROM memberships m JOIN users u ON u.id = m.user_id
    WHERE u.kind = 'machine' AND m.org_id > (SELECT MIN(o.org_id) FROM memberships o WHERE o.user_id = m.user_id);
INSERT INTO memberships (org_id, user_id, active, created_at)
    SELECT m.org_id, m.user_id || '-' || m.org_id, m.active, m.created_at
    FROM memberships m JOIN users u ON u.id = m.user_id || '-' || m.org_id;
UPDATE bindings SET user_id = user_id || '-' || org_id WHERE user_id || '-' || org_id IN (SELECT id FROM users);
UPDATE api_keys SET user_id = user_id || '-' || org_id WHERE user_id || '-' || org_id IN (SELECT id FROM users);
DELETE FROM memberships WHERE user_id || '-' || org_id IN (SELECT id FROM users);
UPDATE users SET name = name || ':' || COALESCE((SELECT MIN(m.org_id) FROM memberships m WHERE m.user_id = users.id), '')
 WHERE kind = 'machine' AND name NOT LIKE '%:%';

ALTER TABLE memberships ADD COLUMN first_name TEXT NOT NULL DEFAULT '';
ALTER TABLE memberships ADD COLUMN last_name TEXT NOT NULL DEFAULT '';
-- Longest validity of this member's new API keys; NULL: the organization's.
ALTER TABLE memberships ADD COLUMN key_valid_days BIGINT;
ALTER TABLE memberships ADD COLUMN last_access_at BIGINT;
-- The door of the last access: console, api, cli or registry.
ALTER TABLE memberships ADD COLUMN last_access_door TEXT;
-- When the last invitation was sent.
ALTER TABLE memberships ADD COLUMN invited_at BIGINT;
-- Since when the user is there by their own act. Before, the organization has no say over their log-ins, sessions and factors.
ALTER TABLE memberships ADD COLUMN accepted_at BIGINT;
UPDATE memberships SET accepted_at = created_at;
ALTER TABLE memberships ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

CREATE TABLE groups (
    id          TEXT   NOT NULL PRIMARY KEY,
    org_id      TEXT   NOT NULL REFERENCES orgs (id),
    name        TEXT COLLATE "C" NOT NULL,
    description TEXT   NOT NULL,
    -- NULL, 'local-users' (every local member, by itself) or 'organization-admins'.
    builtin     TEXT,
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    UNIQUE (org_id, name)
);

CREATE TABLE group_members (
    group_id    TEXT   NOT NULL REFERENCES groups (id),
    user_id     TEXT   NOT NULL,
    org_id      TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (group_id, user_id),
    FOREIGN KEY (org_id, user_id) REFERENCES memberships (org_id, user_id)
);
CREATE INDEX group_members_by_user ON group_members (user_id, org_id);

-- A base role with more or fewer permissions, and where it reaches. Lists are JSON arrays, sorted.
CREATE TABLE custom_roles (
    id           TEXT   NOT NULL PRIMARY KEY,
    org_id       TEXT   NOT NULL REFERENCES orgs (id),
    name         TEXT COLLATE "C" NOT NULL,
    description  TEXT   NOT NULL,
    base         TEXT   NOT NULL,
    added        TEXT   NOT NULL,
    removed      TEXT   NOT NULL,
    -- Globs on the path below the project; empty: every repository.
    repositories TEXT   NOT NULL,
    -- Globs on tags that may be written or deleted; empty: every tag.
    tags         TEXT   NOT NULL,
    version      BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    UNIQUE (org_id, name)
);

-- Bindings are of a user or of a group. `role` is the token of a base role, or the id of a custom one.
CREATE TABLE role_bindings (
    id          TEXT   NOT NULL PRIMARY KEY,
    org_id      TEXT   NOT NULL,
    user_id     TEXT,
    group_id    TEXT   REFERENCES groups (id),
    role        TEXT   NOT NULL,
    project_id  TEXT   REFERENCES projects (id),
    namespaces  TEXT   NOT NULL,
    -- Part of the organization itself: cannot be taken away.
    builtin     BOOLEAN NOT NULL,
    created_at  BIGINT NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES memberships (org_id, user_id)
);
INSERT INTO role_bindings (id, org_id, user_id, group_id, role, project_id, namespaces, builtin, created_at)
    SELECT id, org_id, user_id, NULL, role, project_id, namespaces, FALSE, created_at FROM bindings;
DROP TABLE bindings;
ALTER TABLE role_bindings RENAME TO bindings;
CREATE INDEX bindings_by_org ON bindings (org_id, id);
CREATE INDEX bindings_by_user ON bindings (user_id);
CREATE INDEX bindings_by_group ON bindings (group_id);
CREATE INDEX bindings_by_project ON bindings (project_id);
CREATE INDEX bindings_by_role ON bindings (org_id, role);
CREATE UNIQUE INDEX bindings_once
    ON bindings (org_id, COALESCE(user_id, ''), COALESCE(group_id, ''), role, COALESCE(project_id, ''), namespaces);

-- The built-in groups of organizations that exist.
INSERT INTO groups (id, org_id, name, description, builtin, version, created_at)
    SELECT id || '-l', id, 'All Local Users', 'Every local user of the organization; grants nothing.', 'local-users', 1, created_at
    FROM orgs;
INSERT INTO groups (id, org_id, name, description, builtin, version, created_at)
    SELECT id || '-a', id, 'Organization Admins', 'Administers the organization.', 'organization-admins', 1, created_at
    FROM orgs;
INSERT INTO bindings (id, org_id, user_id, group_id, role, project_id, namespaces, builtin, created_at)
    SELECT id || '-a', id, NULL, id || '-a', 'ADMIN', NULL, '[]', TRUE, created_at FROM orgs;

-- Keys may be narrower than their user: JSON arrays of project ids and of permissions; NULL: no narrower.
ALTER TABLE api_keys ADD COLUMN projects TEXT;
ALTER TABLE api_keys ADD COLUMN permissions TEXT;
-- The user who made it.
ALTER TABLE api_keys ADD COLUMN created_by TEXT;
ALTER TABLE api_keys ADD COLUMN last_used_from TEXT;
-- When its owner was told that it ends soon.
ALTER TABLE api_keys ADD COLUMN notified_at BIGINT;
CREATE INDEX api_keys_by_expiry ON api_keys (expires_at);

-- Sessions of the console (a cookie) and of the CLI (a bearer token). Those from before know too little of themselves.
DELETE FROM sessions;
ALTER TABLE sessions ADD COLUMN id TEXT NOT NULL DEFAULT '';
-- 'browser' or 'cli'.
ALTER TABLE sessions ADD COLUMN kind TEXT NOT NULL DEFAULT 'browser';
-- The organization that was chosen.
ALTER TABLE sessions ADD COLUMN org_id TEXT;
ALTER TABLE sessions ADD COLUMN last_seen_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN agent TEXT NOT NULL DEFAULT '';
-- Whether a second factor was shown, or a passkey.
ALTER TABLE sessions ADD COLUMN second_factor BOOLEAN NOT NULL DEFAULT FALSE;
CREATE UNIQUE INDEX sessions_by_id ON sessions (id);

CREATE TABLE recovery_codes (
    user_id     TEXT   NOT NULL REFERENCES users (id),
    -- Under a key of the master key: a code is shorter than a key.
    code_mac    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (user_id, code_mac)
);

CREATE TABLE passkeys (
    -- Hash of the credential's id.
    id           TEXT   NOT NULL PRIMARY KEY,
    user_id      TEXT   NOT NULL REFERENCES users (id),
    name         TEXT   NOT NULL,
    -- Public key, counter and flags, as the library keeps them.
    credential   TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT
);
CREATE INDEX passkeys_by_user ON passkeys (user_id);

-- One-time things in flight, by the hash of their secret: a log-in that waits for its second factor ('login'), passkey
-- ceremonies, password resets ('reset').
CREATE TABLE challenges (
    secret_hash TEXT   NOT NULL PRIMARY KEY,
    kind        TEXT   NOT NULL,
    user_id     TEXT   REFERENCES users (id),
    -- The user's epoch then: when it moves, the challenge is void.
    epoch       BIGINT NOT NULL,
    data        TEXT   NOT NULL,
    attempts    BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL
);
CREATE INDEX challenges_by_expiry ON challenges (expires_at);
CREATE INDEX challenges_by_user ON challenges (user_id);

-- Device authorization (RFC 8628), by the hash of the device code.
CREATE TABLE device_grants (
    device_hash    TEXT   NOT NULL PRIMARY KEY,
    user_code_hash TEXT   NOT NULL UNIQUE,
    -- 'pending', 'approved', 'denied'.
    status         TEXT   NOT NULL,
    user_id        TEXT   REFERENCES users (id),
    epoch          BIGINT NOT NULL,
    org_id         TEXT,
    second_factor  BOOLEAN NOT NULL,
    -- What asks: shown to whoever confirms.
    client         TEXT   NOT NULL,
    address        TEXT   NOT NULL,
    last_poll_ms   BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL
);
CREATE INDEX device_grants_by_expiry ON device_grants (expires_at);
CREATE INDEX device_grants_by_user ON device_grants (user_id);

-- Issuers whose tokens stand for a machine (RFC 8693). `rules` is a JSON object: claim → exact values.
CREATE TABLE trusted_issuers (
    id          TEXT   NOT NULL PRIMARY KEY,
    org_id      TEXT   NOT NULL,
    user_id     TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    issuer      TEXT   NOT NULL,
    audience    TEXT   NOT NULL,
    rules       TEXT   NOT NULL,
    -- A JSON Web Key Set given by hand; NULL: the issuer publishes its own.
    keys        TEXT,
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    last_used_at BIGINT,
    FOREIGN KEY (org_id, user_id) REFERENCES memberships (org_id, user_id)
);
CREATE INDEX trusted_issuers_by_org ON trusted_issuers (org_id, id);
CREATE INDEX trusted_issuers_by_user ON trusted_issuers (user_id);

-- Mails to be sent, committed with what they are about. Their text is sealed: it may hold a temporary password.
CREATE TABLE mails (
    id          TEXT   NOT NULL PRIMARY KEY,
    org_id      TEXT,
    recipient   TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    sealed      TEXT   NOT NULL,
    attempts    BIGINT NOT NULL,
    next_at     BIGINT NOT NULL,
    last_error  TEXT,
    created_at  BIGINT NOT NULL
);
CREATE INDEX mails_by_time ON mails (next_at);

-- Creates that were answered, so that a repeated one gets the same answer. The answer is sealed: it may hold a key.
CREATE TABLE idempotency_keys (
    key_hash     TEXT   NOT NULL PRIMARY KEY,
    request_hash TEXT   NOT NULL,
    -- NULL while the first request runs.
    status       BIGINT,
    sealed       TEXT,
    created_at   BIGINT NOT NULL,
    -- Id of the API key that the answer holds, if it holds one.
    api_key      TEXT
);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_by_api_key ON idempotency_keys (api_key);

-- The audit log: one chain for each organization, and one for the platform (org_id '').
CREATE TABLE audit_heads (
    org_id      TEXT   NOT NULL PRIMARY KEY,
    -- The youngest event.
    seq         BIGINT NOT NULL,
    hash        TEXT   NOT NULL,
    -- The oldest event that is kept, and the hash of the one before it.
    first_seq   BIGINT NOT NULL,
    anchor      TEXT   NOT NULL
);

CREATE TABLE audit_events (
    org_id      TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    at_ms       BIGINT NOT NULL,
    actor_id    TEXT   NOT NULL,
    actor       TEXT   NOT NULL,
    credential  TEXT   NOT NULL,
    client      TEXT   NOT NULL,
    action      TEXT   NOT NULL,
    -- The action's part before the dot, to be found by.
    noun        TEXT   NOT NULL,
    target      TEXT   NOT NULL,
    project     TEXT   NOT NULL,
    outcome     TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    address     TEXT   NOT NULL,
    agent       TEXT   NOT NULL,
    request_id  TEXT   NOT NULL,
    -- What changed, before and after: JSON.
    detail      TEXT   NOT NULL,
    prev_hash   TEXT   NOT NULL,
    hash        TEXT   NOT NULL,
    PRIMARY KEY (org_id, seq)
);
CREATE INDEX audit_events_by_actor ON audit_events (org_id, actor, seq);
CREATE INDEX audit_events_by_action ON audit_events (org_id, action, seq);
CREATE INDEX audit_events_by_noun ON audit_events (org_id, noun, seq);
CREATE INDEX audit_events_by_project ON audit_events (org_id, project, seq);
CREATE INDEX audit_events_by_outcome ON audit_events (org_id, outcome, seq);
CREATE INDEX audit_events_by_client ON audit_events (org_id, client, seq);
CREATE INDEX audit_events_by_address ON audit_events (org_id, address, seq);

-- The oldest and the youngest time of every 1024 events of a chain, whose order is not quite that of time: what is of a
-- time is found by them.
CREATE TABLE audit_spans (
    org_id      TEXT   NOT NULL,
    -- seq / 1024
    span        BIGINT NOT NULL,
    min_ms      BIGINT NOT NULL,
    max_ms      BIGINT NOT NULL,
    PRIMARY KEY (org_id, span)
);
