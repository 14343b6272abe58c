-- History made elsewhere, that was moved in.

-- Which line of which history a version came from: the same line never comes in twice.
CREATE TABLE import_key (
    project_id TEXT NOT NULL REFERENCES project (id),
    source     TEXT NOT NULL,     -- see `HistoryRow.source`
    version_id INTEGER NOT NULL,  -- it may be gone by now: then the line may come in once more
    PRIMARY KEY (project_id, source)
) WITHOUT ROWID;

-- Jobs that were made for such lines: only these get further ones.
CREATE TABLE imported_job (
    job_id INTEGER NOT NULL PRIMARY KEY,  -- ids are never used again, so this one may be gone
    source TEXT NOT NULL                  -- see `HistoryRow.source_job`
);

-- Lists whose ids do not ascend with their create times any more: something older came in later.
CREATE TABLE out_of_order (
    project_id   TEXT NOT NULL REFERENCES project (id),
    workspace_id TEXT NOT NULL,
    list         TEXT NOT NULL CHECK (list IN ('job', 'version')),
    PRIMARY KEY (project_id, workspace_id, list)
) WITHOUT ROWID;
