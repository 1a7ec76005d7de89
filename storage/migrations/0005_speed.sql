-- What makes lists fast where an organization has a hundred thousand members and repositories.

-- The user's kind once more, which never changes.
ALTER TABLE memberships ADD COLUMN kind TEXT NOT NULL DEFAULT '';
-- What a member is searched in: the name as it is shown, first and last name, in small letters. The indexes hold it, so that a
-- search for any part reads one of them, and a row only where it found something.
ALTER TABLE memberships ADD COLUMN searched TEXT NOT NULL DEFAULT '';
UPDATE memberships SET kind = (SELECT u.kind FROM users u WHERE u.id = memberships.user_id);
UPDATE memberships SET searched = LOWER(CASE
        WHEN kind = 'machine' AND LENGTH(name) > LENGTH(org_id) + 1 THEN SUBSTR(name, 1, LENGTH(name) - LENGTH(org_id) - 1)
        ELSE name END || ' ' || first_name || ' ' || last_name);
DROP INDEX memberships_by_name;
CREATE INDEX memberships_by_name ON memberships (org_id, name, searched);
CREATE INDEX memberships_by_kind ON memberships (org_id, kind, name, searched);
CREATE INDEX memberships_by_status ON memberships (org_id, (CASE
        WHEN active = FALSE THEN 'inactive' WHEN kind = 'local' AND last_access_at IS NULL THEN 'invited' ELSE 'active' END),
    name, searched);

-- A project's repositories, newest first.
CREATE INDEX repositories_by_project_push ON repositories (project_id, pushed_at, name);
