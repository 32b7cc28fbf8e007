-- +goose Up
-- One row a VM: what is durable of it (package banger, Record). Nothing that is
-- true only on this boot of the host is here.
CREATE TABLE vms (
    id            TEXT    NOT NULL PRIMARY KEY,
    owner         INTEGER NOT NULL, -- uid
    name          TEXT    NOT NULL,
    spec          TEXT    NOT NULL, -- JSON
    intent        TEXT    NOT NULL,
    creating      INTEGER NOT NULL, -- 1 until its create has finished
    image_digest  TEXT    NOT NULL,
    kernel_digest TEXT    NOT NULL,
    machine       TEXT    NOT NULL, -- JSON
    created       TEXT    NOT NULL, -- UTC, of fixed width, so that it sorts
    last_error    TEXT    NOT NULL,
    last_exit     TEXT,             -- JSON, or NULL
    UNIQUE (owner, name)
) STRICT;
