-- Events of the audit log lie together in bundles: those that were written at one time share a row, and what they have in
-- common is said once. A registry's pulls are many and alike.

CREATE TABLE audit_bundles (
    org_id    TEXT   NOT NULL,
    -- The youngest event of the bundle; the others come right before it.
    last_seq  BIGINT NOT NULL,
    -- JSON: see storage/src/audit/bundle.rs.
    events    TEXT   NOT NULL,
    PRIMARY KEY (org_id, last_seq)
);

-- What bundles are found by: `actor=ann@example.com`, `noun=image`, … once for each bundle that holds such an event.
CREATE TABLE audit_terms (
    org_id    TEXT   NOT NULL,
    term      TEXT   NOT NULL,
    last_seq  BIGINT NOT NULL,
    PRIMARY KEY (org_id, term, last_seq)
) /*SQLite: WITHOUT ROWID*/;

-- `audit_events` is emptied into bundles by the program, right after this. Nobody looks for anything there any more.
DROP INDEX audit_events_by_actor;
DROP INDEX audit_events_by_action;
DROP INDEX audit_events_by_noun;
DROP INDEX audit_events_by_project;
DROP INDEX audit_events_by_outcome;
DROP INDEX audit_events_by_client;
DROP INDEX audit_events_by_address;
