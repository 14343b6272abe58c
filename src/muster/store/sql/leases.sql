-- name: find_lease
-- With the time of the database: the clocks of servers may differ.
SELECT holder, machine, boot_id, pid, start_ticks, revision, until_ms,
       CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)
  FROM lease
 WHERE name = :name

-- name: tell_time
SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)

-- name: put_lease
INSERT INTO lease (name, holder, machine, boot_id, pid, start_ticks, revision, until_ms)
VALUES (:name, :holder, :machine, :boot_id, :pid, :start_ticks, :revision, :until_ms)
ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, machine = excluded.machine, boot_id = excluded.boot_id,
       pid = excluded.pid, start_ticks = excluded.start_ticks, revision = excluded.revision,
       until_ms = excluded.until_ms

-- name: holds_lease
SELECT 1
  FROM lease
 WHERE name = :name
   AND holder = :holder
   AND revision = :revision
