-- +goose Up
-- What people were told, by which channel. A mark is the same for the same notice on the same channel.
CREATE TABLE deliveries (
    mark        TEXT NOT NULL,
    made_at     BIGINT NOT NULL,
    channel     TEXT NOT NULL,
    key_name    TEXT NOT NULL,
    rotation_id TEXT NOT NULL,
    kind        TEXT NOT NULL,
    what        TEXT NOT NULL,
    PRIMARY KEY (mark, made_at)
);
CREATE INDEX deliveries_rotation ON deliveries (rotation_id, made_at);
