-- name: count_algorithms
-- Of one project, over all workspaces: a bounded number.
SELECT count(*)
  FROM algorithm
 WHERE project_id = :project_id

-- name: insert_algorithm
INSERT INTO algorithm (
    uid, project_id, workspace_id, name, description, creator_name, recipe, requirements,
    auto_search, code_bytes, created_at_ms, updated_at_ms)
VALUES (
    :uid, :project_id, :workspace_id, :name, :description, :creator_name, :recipe, :requirements,
    :auto_search, :code_bytes, :created_at_ms, :updated_at_ms)

-- name: update_algorithm
UPDATE algorithm
   SET name = :name, description = :description, recipe = :recipe, requirements = :requirements,
       auto_search = :auto_search, code_bytes = :code_bytes, updated_at_ms = :updated_at_ms
 WHERE uid = :uid
   AND project_id = :project_id

-- name: delete_algorithm
DELETE FROM algorithm
 WHERE uid = :uid
   AND project_id = :project_id

-- name: find_algorithm
SELECT uid, project_id, workspace_id, name, description, creator_name, recipe, requirements,
       auto_search, code_bytes, created_at_ms, updated_at_ms
  FROM algorithm
 WHERE uid = :uid
   AND project_id = :project_id

-- name: find_workspace_of_algorithm
SELECT workspace_id
  FROM algorithm
 WHERE uid = :uid
   AND project_id = :project_id

-- name: find_project_account
SELECT account_id
  FROM project
 WHERE id = :project_id

-- name: count_listed_algorithms
SELECT count(*)
  FROM algorithm
 WHERE project_id = :project_id
   AND workspace_id = :workspace_id
   AND instr(lower(name), lower(:part)) > 0

-- name: list_algorithms_ascending
-- Of a bounded number, sorted without what may be long in them; only the page of them is read.
WITH page AS (
    SELECT id, row_number() OVER (
               ORDER BY CASE :group_key WHEN 'create_time' THEN printf('%020d', created_at_ms)
                                        WHEN 'update_time' THEN printf('%020d', updated_at_ms)
                                        WHEN 'name' THEN name
                                        WHEN 'user_name' THEN creator_name
                                        WHEN 'description' THEN description END,
                        CASE :sort_key WHEN 'create_time' THEN printf('%020d', created_at_ms)
                                       WHEN 'update_time' THEN printf('%020d', updated_at_ms)
                                       WHEN 'name' THEN name
                                       WHEN 'user_name' THEN creator_name
                                       WHEN 'description' THEN description END,
                        id) AS place
      FROM algorithm
     WHERE project_id = :project_id
       AND workspace_id = :workspace_id
       AND instr(lower(name), lower(:part)) > 0
     ORDER BY place
     LIMIT :limit
    OFFSET :offset)
SELECT a.uid, a.project_id, a.workspace_id, a.name, a.description, a.creator_name, a.recipe,
       a.requirements, a.auto_search, a.code_bytes, a.created_at_ms, a.updated_at_ms
  FROM page
  JOIN algorithm AS a
    ON a.id = page.id
 ORDER BY page.place

-- name: list_algorithms_descending
-- The same the other way round, but for the groups.
WITH page AS (
    SELECT id, row_number() OVER (
               ORDER BY CASE :group_key WHEN 'create_time' THEN printf('%020d', created_at_ms)
                                        WHEN 'update_time' THEN printf('%020d', updated_at_ms)
                                        WHEN 'name' THEN name
                                        WHEN 'user_name' THEN creator_name
                                        WHEN 'description' THEN description END,
                        CASE :sort_key WHEN 'create_time' THEN printf('%020d', created_at_ms)
                                       WHEN 'update_time' THEN printf('%020d', updated_at_ms)
                                       WHEN 'name' THEN name
                                       WHEN 'user_name' THEN creator_name
                                       WHEN 'description' THEN description END DESC,
                        id DESC) AS place
      FROM algorithm
     WHERE project_id = :project_id
       AND workspace_id = :workspace_id
       AND instr(lower(name), lower(:part)) > 0
     ORDER BY place
     LIMIT :limit
    OFFSET :offset)
SELECT a.uid, a.project_id, a.workspace_id, a.name, a.description, a.creator_name, a.recipe,
       a.requirements, a.auto_search, a.code_bytes, a.created_at_ms, a.updated_at_ms
  FROM page
  JOIN algorithm AS a
    ON a.id = page.id
 ORDER BY page.place
