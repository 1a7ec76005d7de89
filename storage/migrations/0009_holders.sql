-- A member's name once more beside the roles that the member holds: the list of those who hold a role that thousands hold, or any
-- role on a project, reads an index in the order of names. Names of members do not change. Of groups, the name is empty.
ALTER TABLE bindings ADD COLUMN name TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE bindings SET name = COALESCE((SELECT m.name FROM memberships m
    WHERE m.org_id = bindings.org_id AND m.user_id = bindings.user_id), '');
DROP INDEX bindings_by_role;
CREATE INDEX bindings_by_role ON bindings (org_id, role, name);
DROP INDEX bindings_by_project;
CREATE INDEX bindings_by_project ON bindings (project_id, name);
-- Lists of bindings, oldest first, by what they are of.
CREATE INDEX bindings_of_role ON bindings (org_id, role, id);
CREATE INDEX bindings_of_project ON bindings (project_id, id);
