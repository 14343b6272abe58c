-- name: find_partition_of_node
SELECT partition
  FROM node
 WHERE name = :node_name

-- name: version_is_listed
SELECT 1
  FROM version
 WHERE id = :version_id
   AND is_deleted = 0

-- name: list_version_tags
SELECT key, value
  FROM version_tag
 WHERE version_id = :version_id
 ORDER BY key

-- name: list_tags_of_versions
-- Of the versions of a page.
SELECT version_id, key, value
  FROM version_tag
 WHERE version_id IN (SELECT value FROM json_each(:version_ids))

-- name: put_version_tag
INSERT INTO version_tag (version_id, key, value, project_id, workspace_id)
SELECT id, :key, :value, project_id, workspace_id
  FROM version
 WHERE id = :version_id
    ON CONFLICT (version_id, key) DO UPDATE
   SET value = excluded.value

-- name: take_version_tag
DELETE FROM version_tag
 WHERE version_id = :version_id
   AND key = :key

-- name: take_version_tags
DELETE FROM version_tag
 WHERE version_id = :version_id

-- name: list_workspace_tags
-- Every pair once, of all jobs of the workspace.
SELECT DISTINCT key, value
  FROM version_tag
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
