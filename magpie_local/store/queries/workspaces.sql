-- Workspaces, their disks and their snapshots.

-- name: get_workspace
SELECT * FROM workspace_records WHERE id = :id;

-- name: all_workspaces
SELECT * FROM workspace_records ORDER BY coalesce(used_at, created_at) DESC, id;

-- name: workspace_seq
SELECT seq FROM workspaces WHERE id = :id;

-- name: workspace_snapshots
SELECT workspaces.id AS workspace_id, name, disk, snapshots.size_gb, snapshots.created_at
FROM snapshots JOIN workspaces ON workspaces.seq = snapshots.workspace
WHERE workspaces.id = :id
ORDER BY snapshots.created_at, name;

-- name: all_disks
SELECT id, parent FROM disks;

-- name: named_disks
SELECT head AS id FROM workspaces WHERE head IS NOT NULL UNION SELECT disk FROM snapshots;

-- name: add_disk
INSERT INTO disks (id, parent) VALUES (:id, :parent);

-- name: forget_disk
DELETE FROM disks WHERE id = :id;

-- name: add_workspace
INSERT INTO workspaces (id, size_gb, head, base_id, is_clean, created_at)
VALUES (:id, :size_gb, :head, :base_id, :is_clean, :created_at);

-- name: save_workspace
UPDATE workspaces
SET size_gb = :size_gb, head = :head, is_clean = :is_clean, fsck = :fsck, used_at = :used_at, last_job = :last_job
WHERE id = :id;

-- name: delete_workspace
DELETE FROM workspaces WHERE id = :id;

-- name: add_snapshot
INSERT INTO snapshots (workspace, name, disk, size_gb, created_at)
VALUES (:workspace, :name, :disk, :size_gb, :created_at);

-- name: remove_snapshot
DELETE FROM snapshots WHERE workspace = :workspace AND name = :name RETURNING name;
