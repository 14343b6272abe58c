-- name: named_like
-- The jobs of a workspace with any of the parts in their names, none of them deleted: those that
-- the search knows, whose numbers there stand one after the other, and those that it has not learnt
-- yet, 256 at most. Part of other statements, which bind what it asks for.
SELECT rowid & 1099511627775 AS value
  FROM job_search
 WHERE job_search MATCH :words
   AND rowid BETWEEN (coalesce((SELECT number
                                  FROM job_search_place
                                 WHERE project_id = :project_id
                                   AND workspace_id = :workspace_id), -1) << 40)
                 AND (coalesce((SELECT number
                                  FROM job_search_place
                                 WHERE project_id = :project_id
                                   AND workspace_id = :workspace_id), -1) << 40) + 1099511627775
 UNION ALL
SELECT id
  FROM job
 WHERE id > (SELECT id FROM job_search_mark)
   AND +project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND EXISTS (SELECT 1 FROM json_each(:parts) AS part WHERE instr(lower(name), part.value) > 0)

-- name: find_versions_by_uid
SELECT v.id
  FROM json_each(:uids) AS u
 CROSS JOIN workload AS w
    ON w.uid = u.value
 CROSS JOIN version AS v
    ON v.workload_id = w.id

-- name: find_versions_by_part_of_uid
-- No order of ids tells which have a part in them: each is looked at, in their own index alone.
SELECT v.id
  FROM workload AS w
 CROSS JOIN version AS v
    ON v.workload_id = w.id
 WHERE instr(w.uid, :part) > 0
 LIMIT :limit

-- name: list_pools
-- Of a workspace, where any version ran; '' is the public one.
SELECT DISTINCT pool_id
  FROM version_total
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND count > 0

-- name: find_versions_of_names
SELECT id, job_name, number
  FROM version INDEXED BY version_by_name
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND job_name IN (SELECT value FROM json_each(:names))
   AND is_deleted = 0

-- name: list_creators
-- A job knows who made it by name: names of users are never changed.
SELECT m.name
  FROM project AS p
  JOIN member AS m
    ON m.account_id = p.account_id
 WHERE p.id = :project_id
   AND m.id IN (SELECT value FROM json_each(:user_ids))

-- name: list_names_of_algorithms
-- Of a workspace, so many at most: one step along their index for each name, however many versions
-- have it.
WITH RECURSIVE named (name) AS (
    SELECT (SELECT json_extract(config, '$.algorithm.name')
              FROM version INDEXED BY version_by_algorithm
             WHERE project_id = :project_id
               AND workspace_id = :workspace_id
               AND is_deleted = 0
               AND config <> '{}'
               AND json_extract(config, '$.algorithm.name') IS NOT NULL
             ORDER BY json_extract(config, '$.algorithm.name')
             LIMIT 1)
     UNION ALL
    SELECT (SELECT json_extract(config, '$.algorithm.name')
              FROM version INDEXED BY version_by_algorithm
             WHERE project_id = :project_id
               AND workspace_id = :workspace_id
               AND is_deleted = 0
               AND config <> '{}'
               AND json_extract(config, '$.algorithm.name') IS NOT NULL
               AND json_extract(config, '$.algorithm.name') > named.name
             ORDER BY json_extract(config, '$.algorithm.name')
             LIMIT 1)
      FROM named
     WHERE named.name IS NOT NULL
)
SELECT name
  FROM named
 WHERE name IS NOT NULL
 LIMIT :limit

-- name: jobs_of_creators
-- Part of other statements, which bind what it asks for.
SELECT id AS value
  FROM job INDEXED BY job_by_creator
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND creator_name IN (SELECT value FROM json_each(:creators))
   AND is_deleted = 0

-- name: count_versions_of_creators
-- Of a workspace, from what each job knows of its versions.
SELECT coalesce(sum(version_count), 0)
  FROM job INDEXED BY job_by_creator
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND creator_name IN (SELECT value FROM json_each(:creators))
   AND is_deleted = 0

-- name: hidden_versions
-- Of one pool, by status.
SELECT status, sum(count)
  FROM version_total
 WHERE project_id = :project_id
   AND workspace_id IN (SELECT value FROM json_each(:hidden))
   AND pool_id = :shown_pool
   AND count > 0
 GROUP BY status
