-- The two groups that are always there, found without a look at all the others.
CREATE UNIQUE INDEX groups_builtin ON groups (org_id, builtin) WHERE builtin IS NOT NULL;
