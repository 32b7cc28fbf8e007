-- +goose Up
-- The VM's own id while it is being deleted, else ''. It is the whole id, so that
-- no damage of a bit or two can mean that a VM is to go.
ALTER TABLE vms ADD COLUMN deleting TEXT NOT NULL DEFAULT '';
