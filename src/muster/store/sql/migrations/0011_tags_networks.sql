-- Tags of training jobs, and networks that pools may name.

-- Of listed versions only: one that is deleted has none.
CREATE TABLE version_tag (
    version_id   INTEGER NOT NULL,
    key          TEXT NOT NULL,
    value        TEXT NOT NULL,              -- '': a tag that is a key alone
    project_id   TEXT NOT NULL,              -- as the version has it, and likewise the next
    workspace_id TEXT NOT NULL,
    PRIMARY KEY (version_id, key)
) WITHOUT ROWID;

-- Ids ascend with times: what a search for a tag finds since some time is one stretch of it.
CREATE INDEX version_tag_by_key
    ON version_tag (project_id, workspace_id, key, value, version_id);

CREATE TABLE network (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT NOT NULL UNIQUE,       -- as the API names it, and pools do
    project_id       TEXT NOT NULL REFERENCES project (id),
    workspace_id     TEXT NOT NULL,
    display_name     TEXT NOT NULL,
    annotations      TEXT NOT NULL DEFAULT '{}', -- JSON
    spec             TEXT NOT NULL,              -- JSON, as domain.network.NetworkSpec
    created_at_ms    INTEGER NOT NULL,
    FOREIGN KEY (project_id, workspace_id) REFERENCES workspace (project_id, id)
);

CREATE UNIQUE INDEX network_name_taken ON network (project_id, display_name);
