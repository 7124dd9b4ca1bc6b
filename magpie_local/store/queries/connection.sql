-- How connections and transactions are made.

-- name: foreign_keys
PRAGMA foreign_keys = ON;

-- name: synchronous
-- Every acknowledged commit survives a power cut (F27).
PRAGMA synchronous = FULL;

-- name: short_wait
-- After this, store/patience.py does the waiting.
PRAGMA busy_timeout = 1;

-- name: journal_size_limit
-- A kept rollback journal shrinks back to 4 MiB after a large transaction.
PRAGMA journal_size_limit = 4194304;

-- name: secure_delete
-- What is deleted is overwritten: the sealed secrets of jobs that have ended.
PRAGMA secure_delete = ON;

-- name: journal_wal
PRAGMA journal_mode = WAL;

-- name: journal_persist
PRAGMA journal_mode = PERSIST;

-- name: query_only
PRAGMA query_only = ON;

-- name: application_id
PRAGMA application_id;

-- name: user_version
PRAGMA user_version;

-- name: data_version
-- Changes when any other connection, here or elsewhere, commits.
PRAGMA data_version;

-- name: integrity_check
PRAGMA integrity_check(1);

-- name: begin_write
BEGIN IMMEDIATE;

-- name: begin_read
BEGIN;

-- name: commit
COMMIT;

-- name: rollback
ROLLBACK;
