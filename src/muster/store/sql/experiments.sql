-- name: count_experiments
-- Of one project, over all workspaces: a bounded number.
SELECT count(*)
  FROM experiment
 WHERE project_id = :project_id

-- name: insert_experiment
INSERT INTO experiment (
    uid, project_id, workspace_id, name, description, created_at_ms, updated_at_ms)
VALUES (:uid, :project_id, :workspace_id, :name, :description, :created_at_ms, :updated_at_ms)

-- name: update_experiment
UPDATE experiment
   SET name = :name, description = :description, updated_at_ms = :updated_at_ms
 WHERE uid = :uid
   AND project_id = :project_id

-- name: forget_versions
-- The jobs stay as they are, and stand in no experiment any more.
DELETE FROM experiment_version
 WHERE experiment_id = (SELECT id FROM experiment
                         WHERE uid = :uid AND project_id = :project_id)

-- name: delete_experiment
DELETE FROM experiment
 WHERE uid = :uid
   AND project_id = :project_id

-- name: find_experiment
SELECT uid, project_id, workspace_id, name, description, job_count, created_at_ms, updated_at_ms
  FROM experiment
 WHERE uid = :uid
   AND project_id = :project_id

-- name: find_experiment_by_name
SELECT uid, project_id, workspace_id, name, description, job_count, created_at_ms, updated_at_ms
  FROM experiment
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND name = :name

-- name: list_experiments
-- A bounded number: sorted and cut to the page by who asks.
SELECT uid, project_id, workspace_id, name, description, job_count, created_at_ms, updated_at_ms
  FROM experiment
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
 ORDER BY id

-- name: find_workspace_of_experiment
SELECT workspace_id
  FROM experiment
 WHERE uid = :uid
   AND project_id = :project_id

-- name: put_version
INSERT INTO experiment_version (version_id, experiment_id)
SELECT :version_id, id
  FROM experiment
 WHERE uid = :uid
   AND project_id = :project_id

-- name: count_version
UPDATE experiment
   SET job_count = job_count + 1
 WHERE uid = :uid
   AND project_id = :project_id

-- name: take_version
DELETE FROM experiment_version
 WHERE version_id = :version_id
RETURNING experiment_id

-- name: count_version_no_more
UPDATE experiment
   SET job_count = job_count - 1
 WHERE id = :id
