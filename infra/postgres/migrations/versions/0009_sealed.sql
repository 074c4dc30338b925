-- What was rejected, as a whole, says of a person what the encrypted cells of the warehouse do not:
-- where a dataset has personal columns it is encrypted too, before it leaves the process.

ALTER TABLE metadata.quarantine
    ALTER COLUMN raw DROP NOT NULL,
    ADD COLUMN raw_sealed bytea,
    ADD CONSTRAINT quarantine_raw_once CHECK (num_nonnulls(raw, raw_sealed) = 1);
COMMENT ON COLUMN metadata.quarantine.raw_sealed IS
    'The row as received, encrypted; `python -m tasks.open_sealed quarantine ID` prints it.';

ALTER TABLE metadata.dead_letters ADD COLUMN is_sealed boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN metadata.dead_letters.is_sealed IS
    'Whether key and value are encrypted; `python -m tasks.open_sealed dead-letter ID` prints them.';

ALTER TABLE metadata.unsent_messages ADD COLUMN is_sealed boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN metadata.unsent_messages.is_sealed IS
    'Whether key and value are encrypted; `python -m tasks.open_sealed unsent ID` prints them.';

-- The dashboard reads what is known of a message, and never what it said.
REVOKE SELECT ON metadata.quarantine, metadata.dead_letters, metadata.unsent_messages
    FROM sluiceway_reader;
GRANT SELECT (
    id, execution_id, batch_id, dataset, source, line, rule, column_name, reason, raw,
    contract_version, quarantined_at, replayed_at, outcome
) ON metadata.quarantine TO sluiceway_reader;
GRANT SELECT (
    id, execution_id, batch_id, consumer_group, topic, generation, partition, message_offset,
    message_time, source, reason, detail, contract_version, earlier_reasons, is_sealed, attempts,
    outcome, buried_at, relayed_at, relay_attempts, replayed_at
) ON metadata.dead_letters TO sluiceway_reader;
GRANT SELECT (
    id, execution_id, topic, source, reason, detail, is_sealed, attempts, refused_at, sent_at
) ON metadata.unsent_messages TO sluiceway_reader;
