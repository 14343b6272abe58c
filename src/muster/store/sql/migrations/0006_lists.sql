-- Lists where older history came in later, jobs by who made them, and what a pool's workloads hide.

-- Asked only where ids do not tell the order of creation; written once a row.
CREATE INDEX job_by_created ON job (project_id, workspace_id, created_at_ms, id)
    WHERE is_deleted = 0;
CREATE INDEX version_by_created ON version (project_id, workspace_id, created_at_ms, id)
    WHERE is_deleted = 0;

CREATE INDEX job_by_creator ON job (project_id, workspace_id, creator_name, id)
    WHERE is_deleted = 0;

-- A filter of a list by description is answered by the index alone: it looked up every row that it
-- passed, which took ten times as long.
DROP INDEX job_by_description;
CREATE INDEX job_by_description ON job (project_id, workspace_id, description, id, status)
    WHERE is_deleted = 0;
DROP INDEX version_by_description;
CREATE INDEX version_by_description ON version (
    project_id, workspace_id, description, id, status, pool_id) WHERE is_deleted = 0;

-- Likewise, of the workloads of a pool, those in workspaces that the caller may not enter.
DROP INDEX workload_by_pool;
CREATE INDEX workload_by_pool ON workload (project_id, pool_id, id, workspace_id)
    WHERE is_deleted = 0;
DROP INDEX workload_by_phase;
CREATE INDEX workload_by_phase ON workload (project_id, pool_id, type, phase, id, workspace_id)
    WHERE is_deleted = 0;
