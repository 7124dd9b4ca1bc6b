-- Named networks, and the names of addresses.

-- name: get_network
SELECT * FROM network_records WHERE name = :name;

-- name: all_networks
SELECT * FROM network_records ORDER BY name;

-- name: add_network
INSERT INTO networks (name, cidr, created_at) VALUES (:name, :cidr, :created_at);

-- name: delete_network
DELETE FROM networks WHERE name = :name;

-- name: network_members
SELECT id, name, address, address6 FROM jobs
WHERE network = :network
  AND (script_state IN ('scheduled', 'queued', 'starting', 'running')
       OR vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping'))
ORDER BY seq;

-- name: lease_holder
SELECT id FROM jobs
WHERE ipv6_lease = :lease
  AND (script_state IN ('scheduled', 'queued', 'starting', 'running')
       OR vm_state IN ('booting', 'ready', 'paused', 'asleep', 'stopping'))
LIMIT 1;

-- name: get_lease
SELECT * FROM leases WHERE name = :name;

-- name: add_lease
INSERT INTO leases (name, network, address, created_at) VALUES (:name, :network, :address, :created_at);
