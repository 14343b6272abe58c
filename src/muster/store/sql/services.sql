-- name: count_services
-- Of one project, over all workspaces: a bounded number.
SELECT count(*)
  FROM service
 WHERE project_id = :project_id

-- name: insert_service
INSERT INTO service (
    uid, project_id, workspace_id, name, description, owner_name, infer_type, wish, status,
    error, balancing, priority, configs, configs_before, is_deployed, settings, allows_websockets,
    due_at_ms, published_at_ms, updated_at_ms, transition_at_ms, started_at_ms)
VALUES (
    :uid, :project_id, :workspace_id, :name, :description, :owner_name, :infer_type, :wish, :status,
    :error, :balancing, :priority, :configs, :configs_before, :is_deployed, :settings,
    :allows_websockets, :due_at_ms, :published_at_ms, :updated_at_ms, :transition_at_ms,
    :started_at_ms)
RETURNING id

-- name: update_service
-- Guarded: touches no row that somebody else has changed first.
UPDATE service
   SET description = :description, wish = :wish, status = :status, error = :error,
       balancing = :balancing, configs = :configs, configs_before = :configs_before,
       is_deployed = :is_deployed, is_kept = :is_kept, settings = :settings,
       allows_websockets = :allows_websockets, due_at_ms = :due_at_ms,
       published_at_ms = :published_at_ms, updated_at_ms = :updated_at_ms,
       transition_at_ms = :transition_at_ms, started_at_ms = :started_at_ms,
       revision = revision + 1
 WHERE id = :id
   AND revision = :revision

-- name: find_service
SELECT id, uid, project_id, workspace_id, name, description, owner_name, infer_type, wish, status,
       error, balancing, priority, configs, configs_before, is_deployed, settings,
       allows_websockets, due_at_ms, published_at_ms, updated_at_ms, transition_at_ms,
       started_at_ms, revision
  FROM service
 WHERE uid = :uid

-- name: find_service_by_id
SELECT id, uid, project_id, workspace_id, name, description, owner_name, infer_type, wish, status,
       error, balancing, priority, configs, configs_before, is_deployed, settings,
       allows_websockets, due_at_ms, published_at_ms, updated_at_ms, transition_at_ms,
       started_at_ms, revision
  FROM service
 WHERE id = :id

-- name: list_kept_services
-- Those that are up, coming up or ending: a part of a bounded number.
SELECT id, revision
  FROM service
 WHERE is_kept = 1
 ORDER BY id

-- name: list_services
-- Of a bounded number; what is long in them is read for the page alone.
SELECT id, uid, name, infer_type, status, published_at_ms, transition_at_ms, configs, is_deployed
  FROM service
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id

-- name: list_configs_of_services
-- Of a bounded number.
SELECT infer_type, configs
  FROM service
 WHERE project_id = :project_id

-- name: find_workspace_of_service
SELECT workspace_id
  FROM service
 WHERE uid = :uid
   AND project_id = :project_id

-- name: delete_service
DELETE FROM service
 WHERE id = :service_id

-- name: delete_service_models
DELETE FROM service_model
 WHERE service_id = :service_id

-- name: insert_service_model
INSERT INTO service_model (service_id, model_uid)
VALUES (:service_id, :model_uid)
ON CONFLICT (service_id, model_uid) DO NOTHING

-- name: delete_service_calls
DELETE FROM service_call
 WHERE service_id = :service_id

-- name: delete_service_updates
DELETE FROM service_update
 WHERE service_id = :service_id

-- name: delete_service_events
DELETE FROM service_event
 WHERE service_id = :service_id

-- name: insert_instance
INSERT INTO service_instance (service_id, config_key, workload_id, phase, since_ms, tries)
VALUES (:service_id, :config_key, :workload_id, 'starting', :now_ms, :tries)

-- name: mark_instance
UPDATE service_instance
   SET phase = :phase, since_ms = :now_ms,
       ready_at_ms = coalesce(ready_at_ms, CAST(:ready_at_ms AS BIGINT))
 WHERE id = :id

-- name: delete_instance
DELETE FROM service_instance
 WHERE id = :id

-- name: list_instances
-- Of some services, each with its workload.
SELECT i.service_id, i.id, i.config_key, i.phase, i.since_ms, i.ready_at_ms, i.tries, w.id,
       w.phase, w.started_at_ms, w.ended_at_ms, w.attempt_id
  FROM service_instance AS i
  JOIN workload AS w
    ON w.id = i.workload_id
 WHERE i.service_id IN (SELECT value FROM json_each(:service_ids))
 ORDER BY i.id

-- name: add_to_service_call
INSERT INTO service_call (service_id, model_uid, invocation_count, failure_count)
VALUES (:service_id, :model_uid, :invocations, :failures)
ON CONFLICT (service_id, model_uid)
DO UPDATE SET invocation_count = service_call.invocation_count + excluded.invocation_count,
              failure_count = service_call.failure_count + excluded.failure_count

-- name: list_service_calls
SELECT service_id, model_uid, invocation_count, failure_count
  FROM service_call
 WHERE service_id IN (SELECT value FROM json_each(:service_ids))

-- name: insert_service_update
INSERT INTO service_update (service_id, number, at_ms, result, detail, configs)
SELECT :service_id,
       1 + coalesce((SELECT max(number) FROM service_update WHERE service_id = :service_id), 0),
       :at_ms, :result, :detail, :configs

-- name: end_service_updates
-- The one that is under way, if any.
UPDATE service_update
   SET result = :result, detail = :detail
 WHERE service_id = :service_id
   AND result = 'RUNNING'

-- name: trim_service_updates
DELETE FROM service_update
 WHERE service_id = :service_id
   AND number <= (SELECT max(number) FROM service_update WHERE service_id = :service_id) - :kept

-- name: list_service_updates
-- The latest first: a bounded number is kept.
SELECT number, at_ms, result, detail, configs
  FROM service_update
 WHERE service_id = :service_id
 ORDER BY number DESC

-- name: insert_service_event
INSERT INTO service_event (service_id, number, at_ms, is_normal, text)
SELECT :service_id,
       1 + coalesce((SELECT max(number) FROM service_event WHERE service_id = :service_id), 0),
       :at_ms, :is_normal, :text

-- name: trim_service_events
DELETE FROM service_event
 WHERE service_id = :service_id
   AND number <= (SELECT max(number) FROM service_event WHERE service_id = :service_id) - :kept

-- name: list_service_events
-- A bounded number is kept.
SELECT number, at_ms, is_normal, text
  FROM service_event
 WHERE service_id = :service_id
 ORDER BY number
