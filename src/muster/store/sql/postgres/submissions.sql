-- name: find_taken_names
-- Name by name, along the index of names: it alone has them in that order. Without statistics, as
-- all tables are for the first minute, every index of a workspace looks as good to the planner.
SELECT taken.name
  FROM json_each(:names) AS asked
 CROSS JOIN LATERAL (
       SELECT name
         FROM job
        WHERE project_id = :project_id
          AND workspace_id = :workspace_id
          AND name = asked.value
          AND is_deleted = 0
        ORDER BY id, status
        LIMIT 1) AS taken
