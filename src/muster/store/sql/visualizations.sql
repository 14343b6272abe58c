-- name: count_visualizations
-- Of one project, over all workspaces: a bounded number.
SELECT count(*)
  FROM visualization
 WHERE project_id = :project_id

-- name: insert_visualization
INSERT INTO visualization (
    uid, project_id, workspace_id, name, description, user_name, train_url, flavor_code, hours,
    token, answered, note, is_watched, created_at_ms, workload_id, revision)
VALUES (
    :uid, :project_id, :workspace_id, :name, :description, :user_name, :train_url, :flavor_code,
    :hours, :token, :answered, '', 1, :created_at_ms, :workload_id, 0)
RETURNING id

-- name: update_visualization
-- Touches no row when somebody else changed it first.
UPDATE visualization
   SET description = :description, answered = :answered, note = :note,
       is_watched = :is_watched, workload_id = :workload_id, revision = revision + 1
 WHERE id = :id
   AND revision = :revision

-- name: delete_visualization
DELETE FROM visualization
 WHERE id = :id

-- name: find_visualization
SELECT v.id, v.uid, v.project_id, v.workspace_id, v.name, v.description, v.user_name, v.train_url,
       v.flavor_code, v.hours, v.token, v.answered, v.note, v.is_watched, v.created_at_ms,
       v.workload_id, v.revision, w.phase, w.reason, w.message, w.attempt_id, w.is_holding,
       w.started_at_ms, w.ended_at_ms
  FROM visualization AS v
  LEFT JOIN workload AS w
    ON w.id = v.workload_id
 WHERE v.id = :id

-- name: find_visualization_by_uid
SELECT v.id, v.uid, v.project_id, v.workspace_id, v.name, v.description, v.user_name, v.train_url,
       v.flavor_code, v.hours, v.token, v.answered, v.note, v.is_watched, v.created_at_ms,
       v.workload_id, v.revision, w.phase, w.reason, w.message, w.attempt_id, w.is_holding,
       w.started_at_ms, w.ended_at_ms
  FROM visualization AS v
  LEFT JOIN workload AS w
    ON w.id = v.workload_id
 WHERE v.uid = :uid

-- name: list_visualizations
-- All that a page is made of, a bounded number: sorted and cut to the page by who asks.
SELECT v.id, v.uid, v.project_id, v.workspace_id, v.name, v.description, v.user_name, v.train_url,
       v.flavor_code, v.hours, v.token, v.answered, v.note, v.is_watched, v.created_at_ms,
       v.workload_id, v.revision, w.phase, w.reason, w.message, w.attempt_id, w.is_holding,
       w.started_at_ms, w.ended_at_ms
  FROM visualization AS v
  LEFT JOIN workload AS w
    ON w.id = v.workload_id
 WHERE v.project_id = :project_id
   AND v.workspace_id = :workspace_id

-- name: list_watched_visualizations
-- What the keeper looks after; the words are those of the index.
SELECT v.id, v.uid, v.project_id, v.workspace_id, v.name, v.description, v.user_name, v.train_url,
       v.flavor_code, v.hours, v.token, v.answered, v.note, v.is_watched, v.created_at_ms,
       v.workload_id, v.revision, w.phase, w.reason, w.message, w.attempt_id, w.is_holding,
       w.started_at_ms, w.ended_at_ms
  FROM visualization AS v
  LEFT JOIN workload AS w
    ON w.id = v.workload_id
 WHERE v.is_watched = 1
 ORDER BY v.id
 LIMIT :limit

-- name: list_writers
-- Training jobs of a project that nodes are held for: the words are those of the index. By project
-- SQLite would look through all that it has ever run.
SELECT w.attempt_id, coalesce(r.run, w.run)
  FROM workload AS w INDEXED BY workload_active
  LEFT JOIN workload_run AS r
    ON r.workload_id = w.id
 WHERE (w.phase IN ('Creating', 'Starting', 'Running', 'Terminating', 'Lost') OR w.is_holding = 1)
   AND w.project_id = :project_id
   AND w.type = 'train'
   AND w.is_deleted = 0
   AND w.attempt_id IS NOT NULL
 ORDER BY w.id DESC
 LIMIT :limit

-- name: find_workspace
SELECT workspace_id
  FROM visualization
 WHERE id = :id
   AND project_id = :project_id
