-- What shows whether a process has the keys that this database's personal cells are of.

CREATE TABLE metadata.key_proof (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    cell bytea NOT NULL,
    index bytea NOT NULL,
    proved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE metadata.key_proof IS
    'A known text, encrypted and indexed by the keys in use: whoever has others is refused.';
GRANT SELECT, INSERT, UPDATE ON metadata.key_proof TO sluiceway_loader;
GRANT SELECT ON metadata.key_proof TO sluiceway_eraser;
