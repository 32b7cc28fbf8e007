-- +goose Up
-- What has happened (package banger, Event). AUTOINCREMENT, so that an id is
-- never given twice, also after the newest rows were removed.
CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    owner   INTEGER NOT NULL, -- uid
    time    TEXT    NOT NULL, -- UTC, of fixed width, so that it sorts
    type    TEXT    NOT NULL,
    vm      TEXT    NOT NULL, -- name, or ''
    vm_id   TEXT    NOT NULL, -- or ''
    request TEXT    NOT NULL, -- or ''
    reason  TEXT    NOT NULL, -- or ''
    detail  TEXT    NOT NULL  -- JSON
) STRICT;
