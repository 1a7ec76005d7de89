-- Small blobs live in the database: a file and two syncs of its own cost a blob of a few KiB more than all the rest.

-- Content of objects that are no files, by the same keys.
CREATE TABLE small_objects (
    object_key TEXT  NOT NULL PRIMARY KEY,
    content    BYTEA NOT NULL
);

-- What a session has received while that is little. Later, and with NULL here, it is in the object.
ALTER TABLE uploads ADD COLUMN content BYTEA;
