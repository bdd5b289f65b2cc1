-- Who uses the database. Epochs are never given twice.
CREATE TABLE axon_owners (
    epoch   INTEGER PRIMARY KEY AUTOINCREMENT,
    label   TEXT NOT NULL,
    started INTEGER NOT NULL
) STRICT;

-- One row per run: what its record amounts to. `head` is the checksum of its last record.
CREATE TABLE axon_runs (
    key          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    agent        TEXT NOT NULL,
    conversation TEXT,
    state        TEXT NOT NULL,
    waits_for    TEXT,
    accepted_at  INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    recorded     INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    head         INTEGER NOT NULL,
    owner        INTEGER
) STRICT;
CREATE INDEX axon_runs_newest ON axon_runs (accepted_at, id);
CREATE INDEX axon_runs_of_agent ON axon_runs (agent, accepted_at, id);
CREATE INDEX axon_runs_of_conversation ON axon_runs (conversation, accepted_at, id)
    WHERE conversation IS NOT NULL;
CREATE INDEX axon_runs_open ON axon_runs (accepted_at, id)
    WHERE state IN ('queued', 'running', 'paused');
CREATE INDEX axon_runs_ended ON axon_runs (updated_at, key)
    WHERE state NOT IN ('queued', 'running', 'paused');

-- What happened, in order. `body` is the event as JSON, byte for byte.
CREATE TABLE axon_records (
    run      INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    body     TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (run, n)
) STRICT;

CREATE TABLE axon_conversations (
    key        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    messages   INTEGER NOT NULL,
    head       INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX axon_conversations_oldest ON axon_conversations (updated_at, key);

CREATE TABLE axon_messages (
    conversation INTEGER NOT NULL,
    n            INTEGER NOT NULL,
    body         TEXT NOT NULL,
    checksum     INTEGER NOT NULL,
    PRIMARY KEY (conversation, n)
) STRICT;

-- Whose turn it is in a conversation.
CREATE TABLE axon_turns (
    conversation TEXT PRIMARY KEY,
    run          TEXT NOT NULL UNIQUE
) STRICT;
