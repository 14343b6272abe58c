-- What the names of long lists of jobs are made of: how many have a part of one or two characters is
-- told without a look at them, and where in their order none has it. No write of a job waits for it:
-- names are learnt some time after they have come; see store/nameparts.py.

-- Up to which id the names of the jobs of a workspace are learnt. Whatever changes what is known of
-- them gives it an edition that it never had before: so that can be remembered.
CREATE TABLE name_mark (
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    learnt_id    INTEGER NOT NULL,
    edition      TEXT NOT NULL,
    PRIMARY KEY (project_id, workspace_id)
) WITHOUT ROWID;

-- How many of the learnt jobs, but for deleted ones, have a part in their names.
CREATE TABLE name_part (
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    part         TEXT NOT NULL,     -- one or two characters, in small letters
    count        INTEGER NOT NULL CHECK (count >= 0),
    PRIMARY KEY (project_id, workspace_id, part)
) WITHOUT ROWID;

-- The names in their order, in stretches: how many learnt ones there are in each, how all of these
-- begin, and which parts any of them has. What only deleted ones had may be among the parts.
CREATE TABLE name_stretch (
    project_id   TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    low_name     TEXT NOT NULL,     -- it begins here, and ends where the next one does; '' is the first
    name_count   INTEGER NOT NULL CHECK (name_count >= 0),
    prefix       TEXT NOT NULL,
    parts        TEXT NOT NULL,     -- a hexadecimal number with a bit for each part
    PRIMARY KEY (project_id, workspace_id, low_name)
) WITHOUT ROWID;
