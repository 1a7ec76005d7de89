-- A member's name and what a member is searched in, once more beside the groups that the member is in: the list of a large group,
-- and a search in it, read an index of that group alone.
ALTER TABLE group_members ADD COLUMN name TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE group_members ADD COLUMN searched TEXT NOT NULL DEFAULT '';
UPDATE group_members SET
    name = COALESCE((SELECT m.name FROM memberships m
        WHERE m.org_id = group_members.org_id AND m.user_id = group_members.user_id), ''),
    searched = COALESCE((SELECT m.searched FROM memberships m
        WHERE m.org_id = group_members.org_id AND m.user_id = group_members.user_id), '');
CREATE INDEX group_members_by_name ON group_members (group_id, name, searched);
-- How many are in a group, which is dear to count.
ALTER TABLE groups ADD COLUMN members BIGINT NOT NULL DEFAULT 0;
UPDATE groups SET members = counted.members
FROM (SELECT group_id, COUNT(*) AS members FROM group_members GROUP BY group_id) AS counted WHERE counted.group_id = groups.id;
