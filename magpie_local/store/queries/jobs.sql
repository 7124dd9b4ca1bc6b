-- Jobs, their inputs and their story.

-- name: add_job
INSERT INTO jobs (id, name, description, vcpus, memory_mb, timeout, image, log_limit, isolation, workspace_id,
                  persistent, idle_pause, network, ipv6_lease, address, address6, outputs,
                  outputs_limit, script_state, vm_state, attempt, created_at)
VALUES (:id, :name, :description, :vcpus, :memory_mb, :timeout, :image, :log_limit, :isolation, :workspace_id,
        :persistent, :idle_pause, :network, :ipv6_lease, :address, :address6, :outputs,
        :outputs_limit, :script_state, :vm_state, 0, :created_at)
RETURNING seq;

-- name: add_inputs
INSERT INTO inputs (job, env, secret_names, upload_size, upload_crc, script)
VALUES (:job, :env, :secret_names, :upload_size, :upload_crc, :script);

-- name: add_secrets
INSERT INTO secrets (job, box) VALUES (:job, :box);

-- name: forget_secrets
DELETE FROM secrets WHERE job = :job;

-- name: add_event
INSERT INTO events (job, attempt, time, kind, detail) VALUES (:job, :attempt, :time, :kind, :detail);

-- name: get_job
SELECT * FROM job_records WHERE id = :id;

-- name: get_inputs
SELECT script, upload_size, upload_crc, box AS secrets FROM inputs LEFT JOIN secrets ON secrets.job = inputs.job
WHERE inputs.job = (SELECT seq FROM jobs WHERE id = :id);

-- name: get_story
SELECT events.seq, jobs.id AS job_id, events.attempt, time, kind, detail
FROM events JOIN jobs ON jobs.seq = events.job
WHERE jobs.id = :id
ORDER BY events.seq;

-- name: newest_seqs
SELECT seq FROM jobs WHERE seq < :before ORDER BY seq DESC LIMIT :limit OFFSET :offset;

-- name: newest_seqs_of_state
SELECT seq FROM jobs WHERE script_state = :state AND seq < :before ORDER BY seq DESC LIMIT :limit;

-- name: newest_seqs_of_plain_successes
SELECT seq FROM jobs WHERE script_state = 'succeeded' AND persistent = 0 AND seq < :before
ORDER BY seq DESC LIMIT :limit;

-- name: newest_seqs_of_persistent_successes
SELECT seq FROM jobs INDEXED BY jobs_persistent
WHERE persistent AND script_state = 'succeeded' AND seq < :before
  AND (vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping')) = :alive
ORDER BY seq DESC LIMIT :limit;

-- name: jobs_of_seqs
-- :seqs is a JSON array. The cross join keeps it the outer loop: one look-up a job.
SELECT job_records.* FROM json_each(:seqs) AS wanted CROSS JOIN job_records ON job_records.seq = wanted.value
ORDER BY wanted.key;

-- name: save_job
-- Everything that a transition may change.
UPDATE jobs
SET script_state = :script_state, vm_state = :vm_state, attempt = :attempt,
    started_at = :started_at, finished_at = :finished_at,
    exit_code = :exit_code, reason = :reason, message = :message, accelerator = :accelerator, start = :start,
    waiting = :waiting, wish = :wish,
    stop_requested_at = :stop_requested_at, delete_requested_at = :delete_requested_at
WHERE seq = :seq;

-- name: delete_job
DELETE FROM jobs WHERE seq = :seq;

-- name: count_unfinished
SELECT script_state, count(*) AS jobs FROM jobs
WHERE script_state IN ('scheduled', 'queued', 'starting', 'running')
GROUP BY script_state;
