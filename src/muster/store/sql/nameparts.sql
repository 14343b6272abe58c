-- name: list_large_workspaces
-- Where there are so many jobs that it takes its time to look through their names.
SELECT project_id, workspace_id, sum(count)
  FROM job_total
 GROUP BY project_id, workspace_id
HAVING sum(count) >= :names_min

-- name: get_mark
SELECT learnt_id, edition
  FROM name_mark
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id

-- name: list_marks
SELECT project_id, workspace_id, learnt_id
  FROM name_mark

-- name: insert_mark
INSERT INTO name_mark (project_id, workspace_id, learnt_id, edition)
VALUES (:project_id, :workspace_id, 0, :edition)

-- name: set_mark
UPDATE name_mark
   SET learnt_id = :learnt_id, edition = :edition
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id

-- name: list_next_names
SELECT id, name
  FROM job INDEXED BY job_by_id
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND id > :learnt_id
 ORDER BY id
 LIMIT :limit

-- name: jobs_behind_mark
-- Part of other statements, which bind what it asks for.
SELECT id AS value
  FROM job INDEXED BY job_by_id
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND id > :learnt_id

-- name: list_names_of_stretch
SELECT name
  FROM job INDEXED BY job_by_name
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND name >= :low_name
   AND name < :high_name
   AND id <= :learnt_id
 ORDER BY name

-- name: list_learnt_names
-- All of a workspace, in their order: for a check.
SELECT name
  FROM job INDEXED BY job_by_name
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND id <= :learnt_id
 ORDER BY name

-- name: get_part
SELECT count
  FROM name_part
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND part = :part

-- name: list_parts
SELECT part, count
  FROM name_part
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND count > 0

-- name: add_parts
INSERT INTO name_part (project_id, workspace_id, part, count)
VALUES (?, ?, ?, ?)
ON CONFLICT (project_id, workspace_id, part) DO UPDATE
SET count = name_part.count + excluded.count

-- name: take_parts
UPDATE name_part
   SET count = count - 1
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND part IN (SELECT value FROM json_each(:parts))

-- name: list_stretches
SELECT low_name, name_count, prefix, parts
  FROM name_stretch
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
 ORDER BY low_name

-- name: put_stretches
INSERT INTO name_stretch (project_id, workspace_id, low_name, name_count, prefix, parts)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (project_id, workspace_id, low_name) DO UPDATE
SET name_count = excluded.name_count, prefix = excluded.prefix, parts = excluded.parts

-- name: take_from_stretch
UPDATE name_stretch
   SET name_count = name_count - 1
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND low_name = (SELECT s.low_name
                     FROM name_stretch AS s
                    WHERE s.project_id = :project_id
                      AND s.workspace_id = :workspace_id
                      AND s.low_name <= :name
                    ORDER BY s.low_name DESC
                    LIMIT 1)
