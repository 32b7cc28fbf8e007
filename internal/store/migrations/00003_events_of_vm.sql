-- +goose Up
-- A daemon that starts asks for the last event of each VM.
CREATE INDEX events_of_vm ON events (vm_id, id);
