-- The sixth schema. Every new column has a default, so that a program of the fifth schema can go on
-- beside this one during a rolling upgrade.

-- Whether the code of a workload is of a fork: its jobs get no secrets.
ALTER TABLE workload ADD COLUMN from_fork BOOLEAN NOT NULL DEFAULT FALSE;

-- The secrets of a project, each sealed (boxsched/secrets). ``as_file``: a job gets it as a file.
CREATE TABLE secret (
    project BIGINT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    as_file BOOLEAN NOT NULL DEFAULT FALSE,
    sealed TEXT NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (project, name)
);

-- What git alone uses to reach a project's repository, sealed. NULL: it needs nothing.
ALTER TABLE project ADD COLUMN git_credentials TEXT;
