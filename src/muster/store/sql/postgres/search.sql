-- name: named_like
-- The jobs of a workspace with any of the parts in their names: by trigrams where pg_trgm is. Part
-- of other statements.
SELECT id AS value
  FROM job
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND is_deleted = 0
   AND lower(name) LIKE ANY (SELECT value FROM json_each(:patterns))
