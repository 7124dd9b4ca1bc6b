-- What only the leader asks and writes.

-- name: oldest_queued
-- Without those that wait for a workspace: one that another job has, that an earlier job waits for, or that is to
-- begin with one that a job has.
SELECT * FROM job_records AS job
WHERE script_state = 'queued'
  AND (workspace_id IS NULL OR NOT EXISTS (
    SELECT 1 FROM jobs AS other
    WHERE other.seq != job.seq
      AND (other.workspace_id = job.workspace_id
           OR other.workspace_id = (SELECT base_id FROM workspaces WHERE id = job.workspace_id AND head IS NULL))
      AND (other.script_state IN ('starting', 'running') OR other.vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping')
           OR other.script_state = 'queued' AND other.seq < job.seq)))
ORDER BY seq LIMIT :limit;

-- name: unsettled_jobs
-- The condition is that of the index, word for word, or SQLite can't use it.
SELECT job_records.* FROM (
    SELECT seq FROM jobs INDEXED BY jobs_unsettled
    WHERE (script_state IN ('starting', 'running') OR vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping'))
      AND attempt > 0
) AS open CROSS JOIN job_records ON job_records.seq = open.seq
ORDER BY open.seq;

-- name: requested_jobs
SELECT job_records.* FROM (
    SELECT seq FROM jobs INDEXED BY jobs_requested
    WHERE delete_requested_at IS NOT NULL OR wish IS NOT NULL
       OR (stop_requested_at IS NOT NULL AND (finished_at IS NULL OR vm_state IN ('ready', 'paused', 'asleep')))
) AS asked CROSS JOIN job_records ON job_records.seq = asked.seq
ORDER BY asked.seq;

-- name: add_attempt
INSERT INTO attempts (job, number, vm_id, nonce, boot_id, claimed_at)
VALUES (:job, :number, :vm_id, :nonce, :boot_id, :claimed_at);

-- name: get_attempt
SELECT * FROM attempt_records WHERE job_id = :job_id AND number = :number;

-- name: save_attempt
UPDATE attempts
SET vm_started_at = :vm_started_at, ready_at = :ready_at, started_at = :started_at, ended_at = :ended_at,
    gone_at = :gone_at, accelerator = :accelerator, intended = :intended
WHERE vm_id = :vm_id;

-- name: clear_waiting
UPDATE jobs SET waiting = NULL WHERE waiting IS NOT NULL AND id IS NOT :id;

-- name: set_waiting
UPDATE jobs SET waiting = :reason WHERE id = :id AND script_state = 'queued' AND waiting IS NOT :reason;
