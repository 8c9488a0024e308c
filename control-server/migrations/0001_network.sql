-- What the control server keeps. The types and constraints are those that SQLite and PostgreSQL share: text, 64-bit
-- integers and booleans. Keys stand as text in the form in which they are printed; times are seconds since 1970.

CREATE TABLE networks (
    network_id         BIGINT NOT NULL PRIMARY KEY,
    domain             TEXT   NOT NULL,
    -- The server's addresses for join keys, separated by spaces.
    urls               TEXT   NOT NULL,
    epoch              BIGINT NOT NULL,
    revision           BIGINT NOT NULL,
    -- Removals up to this revision are forgotten: who resumes from before it gets a snapshot.
    compacted_revision BIGINT NOT NULL,
    -- Ids of users, join keys and nodes are never used twice.
    last_id            BIGINT NOT NULL,
    -- Hosts below this number have been handed out at least once.
    next_host          BIGINT NOT NULL,
    created_at         BIGINT NOT NULL
);

CREATE TABLE server_keys (
    network_id BIGINT NOT NULL,
    public_key TEXT   NOT NULL,
    secret_key TEXT   NOT NULL,
    -- 'current' is in new join keys; 'next' is announced; 'previous' is still answered to.
    role       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (network_id, public_key)
);

CREATE TABLE users (
    network_id BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (network_id, user_id),
    UNIQUE (network_id, name)
);

CREATE TABLE join_keys (
    network_id  BIGINT  NOT NULL,
    join_key_id BIGINT  NOT NULL,
    user_id     BIGINT  NOT NULL,
    secret_hash TEXT    NOT NULL,
    reusable    BOOLEAN NOT NULL,
    ephemeral   BOOLEAN NOT NULL,
    tags        TEXT    NOT NULL,
    created_at  BIGINT  NOT NULL,
    expires_at  BIGINT,
    revoked_at  BIGINT,
    use_count   BIGINT  NOT NULL,
    PRIMARY KEY (network_id, join_key_id),
    UNIQUE (secret_hash)
);

-- A node key belongs to one machine for life, also after its node is gone: rows are never removed.
CREATE TABLE node_keys (
    network_id  BIGINT NOT NULL,
    node_key    TEXT   NOT NULL,
    machine_key TEXT   NOT NULL,
    claimed_at  BIGINT NOT NULL,
    PRIMARY KEY (network_id, node_key)
);

CREATE TABLE nodes (
    network_id     BIGINT  NOT NULL,
    node_id        BIGINT  NOT NULL,
    user_id        BIGINT  NOT NULL,
    join_key_id    BIGINT  NOT NULL,
    machine_key    TEXT    NOT NULL,
    node_key       TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    -- The name is `base_name` or `base_name-suffix`.
    base_name      TEXT    NOT NULL,
    suffix         BIGINT  NOT NULL,
    -- An administrator chose the name: it no longer follows the hostname.
    name_fixed     BOOLEAN NOT NULL,
    hostname       TEXT    NOT NULL,
    os             TEXT    NOT NULL,
    agent          TEXT    NOT NULL,
    host           BIGINT  NOT NULL,
    tags           TEXT    NOT NULL,
    ephemeral      BOOLEAN NOT NULL,
    created_at     BIGINT  NOT NULL,
    key_expires_at BIGINT,
    last_seen_at   BIGINT  NOT NULL,
    revision       BIGINT  NOT NULL,
    PRIMARY KEY (network_id, node_id),
    UNIQUE (network_id, machine_key),
    UNIQUE (network_id, node_key),
    UNIQUE (network_id, name),
    UNIQUE (network_id, host)
);
CREATE INDEX nodes_by_base_name ON nodes (network_id, base_name, suffix);

-- Nodes that were removed, until everybody has heard of it.
CREATE TABLE tombstones (
    network_id  BIGINT NOT NULL,
    revision    BIGINT NOT NULL,
    node_id     BIGINT NOT NULL,
    machine_key TEXT   NOT NULL,
    removed_at  BIGINT NOT NULL,
    PRIMARY KEY (network_id, revision)
);
CREATE INDEX tombstones_by_machine ON tombstones (network_id, machine_key);

-- Hosts whose nodes are gone; handed out again, the longest released first, when no fresh one is left.
CREATE TABLE released_hosts (
    network_id BIGINT NOT NULL,
    host       BIGINT NOT NULL,
    revision   BIGINT NOT NULL,
    PRIMARY KEY (network_id, host)
);
CREATE INDEX released_hosts_by_revision ON released_hosts (network_id, revision);
