-- The first schema. One transaction: a kill at any statement leaves no database or a whole one.
BEGIN IMMEDIATE;

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What was asked and what became of it. All times: wall clock, seconds since the epoch.
CREATE TABLE jobs (
    seq                 INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  TEXT NOT NULL UNIQUE,
    name                TEXT NOT NULL,
    description         TEXT NOT NULL,
    vcpus               INTEGER NOT NULL,
    memory_mb           INTEGER NOT NULL,
    timeout             REAL,
    image               TEXT NOT NULL,
    log_limit           INTEGER NOT NULL,
    isolation           TEXT NOT NULL,
    workspace_id        TEXT,
    persistent          INTEGER NOT NULL,
    idle_pause          REAL,
    network             TEXT NOT NULL,
    ipv6_lease          TEXT,
    address             TEXT,
    address6            TEXT,
    outputs             TEXT NOT NULL,
    outputs_limit       INTEGER NOT NULL,
    script_state        TEXT NOT NULL,
    vm_state            TEXT NOT NULL,
    attempt             INTEGER NOT NULL,
    created_at          REAL NOT NULL,
    started_at          REAL,
    finished_at         REAL,
    exit_code           INTEGER,
    reason              TEXT,
    message             TEXT,
    accelerator         TEXT,
    start               TEXT,
    waiting             TEXT,
    wish                TEXT,
    stop_requested_at   REAL,
    delete_requested_at REAL
) STRICT;

-- Disk files of workspaces: only heads are written to, all others are frozen (domain.workspace).
CREATE TABLE disks (
    id     TEXT PRIMARY KEY,
    parent TEXT REFERENCES disks (id)
) STRICT, WITHOUT ROWID;

-- head is null until the first job has made the disk.
CREATE TABLE workspaces (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    size_gb    INTEGER NOT NULL,
    head       TEXT REFERENCES disks (id),
    base_id    TEXT,
    is_clean   INTEGER NOT NULL DEFAULT 1,
    fsck       INTEGER,
    created_at REAL NOT NULL,
    used_at    REAL,
    last_job   TEXT
) STRICT;

CREATE TABLE snapshots (
    workspace  INTEGER NOT NULL REFERENCES workspaces (seq) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    disk       TEXT NOT NULL REFERENCES disks (id),
    size_gb    INTEGER NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (workspace, name)
) STRICT;

-- Private networks between VMs.
CREATE TABLE networks (
    name       TEXT PRIMARY KEY,
    cidr       TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Names of IPv6 addresses; a name keeps its address for ever.
CREATE TABLE leases (
    name       TEXT PRIMARY KEY,
    network    TEXT NOT NULL,
    address    TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- What a job brings along: large and never changed, so kept out of the row that each transition rewrites.
CREATE TABLE inputs (
    job    INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    env    TEXT NOT NULL,
    secret_names TEXT NOT NULL,
    upload_size INTEGER,
    upload_crc  INTEGER,
    script BLOB NOT NULL
) STRICT;

-- Sealed values of an environment; they go with the end of the script.
CREATE TABLE secrets (
    job INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    box BLOB NOT NULL
) STRICT;

CREATE TABLE attempts (
    job           INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    number        INTEGER NOT NULL,
    vm_id         TEXT NOT NULL UNIQUE,
    nonce         TEXT NOT NULL,
    boot_id       TEXT NOT NULL,
    claimed_at    REAL NOT NULL,
    vm_started_at REAL,
    ready_at      REAL,
    started_at    REAL,
    ended_at      REAL,
    gone_at       REAL,
    accelerator   TEXT,
    intended      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, number)
) STRICT;

-- The story of each job; detail is a JSON object.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    job     INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    time    REAL NOT NULL,
    kind    TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;

CREATE INDEX jobs_by_state ON jobs (script_state, seq);
CREATE INDEX events_by_job ON events (job, seq);

-- Small whatever the history holds: only jobs that still need somebody.
CREATE INDEX jobs_unsettled ON jobs (seq)
    WHERE script_state IN ('starting', 'running') OR vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping');
CREATE INDEX jobs_requested ON jobs (seq)
    WHERE delete_requested_at IS NOT NULL OR wish IS NOT NULL
       OR (stop_requested_at IS NOT NULL AND (finished_at IS NULL OR vm_state IN ('ready', 'paused', 'asleep')));
CREATE INDEX jobs_by_network ON jobs (network, seq)
    WHERE script_state IN ('scheduled', 'queued', 'starting', 'running')
       OR vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping');
CREATE INDEX jobs_by_lease ON jobs (ipv6_lease) WHERE ipv6_lease IS NOT NULL;
CREATE INDEX jobs_persistent ON jobs (seq) WHERE persistent AND script_state = 'succeeded';
-- Who has a workspace, and who waits for it.
CREATE INDEX jobs_by_workspace ON jobs (workspace_id, seq) WHERE workspace_id IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (seq) WHERE waiting IS NOT NULL;

-- JobRecord, column by column.
CREATE VIEW job_records AS
    SELECT jobs.seq, jobs.id, name, description, vcpus, memory_mb, env, secret_names, timeout, image, log_limit, isolation,
           workspace_id, persistent, idle_pause, network, ipv6_lease, address, address6, outputs, outputs_limit, script_state, vm_state, attempt, created_at, started_at, finished_at, exit_code, reason, message, accelerator, start,
           CASE WHEN waiting IS NULL AND script_state = 'queued' AND workspace_id IS NOT NULL
                THEN (SELECT 'waits for the workspace ' || other.workspace_id || ': job ' || other.id || ' has it'
                      FROM jobs AS other
                      WHERE other.workspace_id = jobs.workspace_id AND other.seq != jobs.seq
                        AND (other.script_state IN ('starting', 'running')
                             OR other.vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping')) LIMIT 1)
                ELSE waiting END AS waiting,
           wish, stop_requested_at, delete_requested_at
    FROM jobs JOIN inputs ON inputs.job = jobs.seq;

-- WorkspaceRecord, column by column. A job has its workspace from its claim until its VM is gone.
CREATE VIEW workspace_records AS
    SELECT workspaces.id, size_gb, head, base_id, is_clean, fsck, workspaces.created_at, used_at, last_job,
           (SELECT jobs.id FROM jobs
            WHERE jobs.workspace_id = workspaces.id
              AND (script_state IN ('starting', 'running') OR vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping'))
            ORDER BY jobs.seq LIMIT 1) AS in_use_by,
           (SELECT count(*) FROM jobs
            WHERE jobs.workspace_id = workspaces.id AND script_state IN ('scheduled', 'queued')) AS waiting
    FROM workspaces;

-- NetworkRecord, column by column.
CREATE VIEW network_records AS
    SELECT name, cidr, created_at,
           (SELECT count(*) FROM jobs
            WHERE jobs.network = networks.name
              AND (script_state IN ('scheduled', 'queued', 'starting', 'running')
                   OR vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping'))) AS jobs
    FROM networks;

-- Attempt, column by column.
CREATE VIEW attempt_records AS
    SELECT jobs.id AS job_id, number, vm_id, nonce, boot_id, claimed_at, vm_started_at, ready_at,
           attempts.started_at, ended_at, gone_at, attempts.accelerator, intended
    FROM attempts JOIN jobs ON jobs.seq = attempts.job;

PRAGMA application_id = 0x4D475049; -- "MGPI"
PRAGMA user_version = 1;
COMMIT;
