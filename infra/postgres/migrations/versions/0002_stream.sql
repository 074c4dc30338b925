-- A batch is a file's load or a micro-batch of messages: one sequence numbers both, so that the
-- `_batch_id` of a row names one of them and no other.
ALTER TABLE metadata.stream_batches ALTER COLUMN id DROP IDENTITY;
ALTER TABLE metadata.stream_batches
    ALTER COLUMN id SET DEFAULT nextval('metadata.source_files_id_seq'),
    -- Per partition, in the order of `partitions`: where the batch began, and where it ended.
    ADD COLUMN first_offsets bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN next_offsets bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN size_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN is_replay boolean NOT NULL DEFAULT false,
    -- Every message of a batch became rows of a dataset or a dead letter; rows that broke their
    -- contract are dead letters too.
    ADD COLUMN skipped bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT stream_ledger_balances CHECK (messages = loaded + dead + skipped);
COMMENT ON COLUMN metadata.stream_batches.skipped IS
    'Messages that changed nothing: duplicates, superseded ones, and dead letters already buried.';
CREATE INDEX ON metadata.stream_batches (consumer_group, id DESC);
CREATE INDEX ON metadata.stream_batches (execution_id);

-- A micro-batch brings rows of several datasets, each with a ledger of its own.
ALTER TABLE metadata.dataset_counts
    DROP CONSTRAINT dataset_counts_batch_id_fkey,
    DROP CONSTRAINT dataset_counts_batch_id_key,
    ADD CONSTRAINT dataset_counts_batch_id_dataset_key UNIQUE (batch_id, dataset);

-- A partition remembers the last message that was taken from it: a topic that was deleted and
-- made again holds another one at that offset. A generation counts such beginnings.
ALTER TABLE metadata.stream_offsets
    ADD COLUMN last_timestamp_ms bigint,
    ADD COLUMN generation integer NOT NULL DEFAULT 0;

ALTER TABLE metadata.dead_letters
    DROP CONSTRAINT dead_letters_consumer_group_topic_partition_message_offset_key,
    ADD COLUMN generation integer NOT NULL DEFAULT 0,
    ADD COLUMN execution_id bigint,
    ADD COLUMN batch_id bigint,
    ADD COLUMN message_time timestamptz,
    ADD COLUMN relay_attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN earlier_reasons jsonb NOT NULL DEFAULT '[]',
    ADD CONSTRAINT dead_letters_one_per_message
        UNIQUE (consumer_group, topic, generation, partition, message_offset);
COMMENT ON COLUMN metadata.dead_letters.earlier_reasons IS
    'Oldest first: what a letter was buried for before a replay found another reason.';
CREATE INDEX ON metadata.dead_letters (id) WHERE relayed_at IS NULL;
CREATE INDEX ON metadata.dead_letters (source, buried_at DESC);

-- What the broker would not take: sent again by the next run, or kept for a person to look at.
CREATE TABLE metadata.unsent_messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id bigint NOT NULL,
    topic text NOT NULL,
    source text NOT NULL,
    message_key bytea,
    message_value bytea NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    refused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz
);
CREATE INDEX ON metadata.unsent_messages (id) WHERE sent_at IS NULL;

GRANT SELECT, INSERT, UPDATE ON metadata.unsent_messages TO sluiceway_loader;
GRANT SELECT ON metadata.unsent_messages TO sluiceway_reader;
GRANT USAGE ON SEQUENCE metadata.source_files_id_seq TO sluiceway_loader;
