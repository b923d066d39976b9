-- The tables of a store, format 1. Times are milliseconds since 1970, run ids are UUIDs as text, records are JSON.
--
-- Only tables whose rows are small are WITHOUT ROWID: in those SQLite reads a row whole to compare its key, and a row of
-- many pages would be read, and if it is damaged stumbled over, on the way to others.

-- What there is one of: `lineage`, `marker`, `queues`; how many runs there are: `live`, `ended`.
CREATE TABLE store (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

-- For which epoch the runs of a shard are recovered.
CREATE TABLE epochs (
  shard INTEGER PRIMARY KEY,
  epoch TEXT NOT NULL
);

-- A run: what every commit writes anew (`head`), and where the run is to be found.
CREATE TABLE runs (
  id TEXT NOT NULL UNIQUE,
  shard INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  version INTEGER NOT NULL,
  entry INTEGER NOT NULL,
  handlers INTEGER NOT NULL, -- of that entry
  events INTEGER NOT NULL,   -- of its history
  state TEXT NOT NULL,
  is_ended INTEGER NOT NULL,
  ended_at INTEGER,
  wake_at INTEGER,
  awaits_worker INTEGER NOT NULL,
  unpublished INTEGER NOT NULL, -- whether its outbox holds anything
  head BLOB NOT NULL
);
CREATE INDEX runs_live ON runs (created_at, id) WHERE NOT is_ended;
CREATE INDEX runs_ended ON runs (created_at, id) WHERE is_ended;
CREATE INDEX runs_of_shard ON runs (shard, created_at, id) WHERE NOT is_ended;
CREATE INDEX runs_by_end ON runs (shard, ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX runs_by_timer ON runs (shard, wake_at, id) WHERE wake_at IS NOT NULL;
CREATE INDEX runs_awaiting ON runs (shard, id) WHERE awaits_worker;
CREATE INDEX runs_unpublished ON runs (shard, id) WHERE unpublished;

-- The bitmap of terminal jobs of each handler of the run's entry, in chunks of 512 bytes: a job that comes to its end
-- costs a chunk, whatever the size of the run. A chunk that is not there is zeros.
CREATE TABLE bits (
  run TEXT NOT NULL,
  handler INTEGER NOT NULL,
  chunk INTEGER NOT NULL,
  bytes BLOB NOT NULL,
  PRIMARY KEY (run, handler, chunk)
) WITHOUT ROWID;

-- The jobs of the run's entry that are out of the ordinary.
CREATE TABLE exceptions (
  run TEXT NOT NULL,
  handler INTEGER NOT NULL,
  job INTEGER NOT NULL,
  exception TEXT NOT NULL,
  UNIQUE (run, handler, job)
);

-- Effects that are not known to be published, by the version that asked for them.
CREATE TABLE outbox (
  run TEXT NOT NULL,
  version INTEGER NOT NULL,
  effects BLOB NOT NULL,
  UNIQUE (run, version)
);

-- The `data` and the `output` of a run.
CREATE TABLE payloads (
  run TEXT NOT NULL,
  name TEXT NOT NULL,
  payload TEXT NOT NULL,
  UNIQUE (run, name)
);

-- Job inputs, in pages. They may come before their run.
CREATE TABLE inputs (
  run TEXT NOT NULL,
  entry INTEGER NOT NULL,
  nonce INTEGER NOT NULL,
  handler INTEGER NOT NULL,
  page INTEGER NOT NULL,
  jobs TEXT NOT NULL,
  UNIQUE (run, entry, nonce, handler, page)
);

-- Job outputs, in pages as they came: `[[job, output], …]`, and the size of these outputs together.
CREATE TABLE outputs (
  run TEXT NOT NULL,
  entry INTEGER NOT NULL,
  handler INTEGER NOT NULL,
  page INTEGER NOT NULL,
  size INTEGER NOT NULL,
  jobs TEXT NOT NULL,
  UNIQUE (run, entry, handler, page)
);

-- The jobs that failed for good, oldest first, from 0.
CREATE TABLE failures (
  run TEXT NOT NULL,
  n INTEGER NOT NULL,
  failure TEXT NOT NULL,
  UNIQUE (run, n)
);

-- What happened, from 1.
CREATE TABLE history (
  run TEXT NOT NULL,
  n INTEGER NOT NULL,
  event TEXT NOT NULL,
  PRIMARY KEY (run, n)
) WITHOUT ROWID;

-- Definitions. Of those with one name the one with the highest place is the latest.
CREATE TABLE workflows (
  revision TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  place INTEGER NOT NULL,
  stored_at INTEGER NOT NULL,
  definition TEXT NOT NULL
);
CREATE UNIQUE INDEX workflows_by_name ON workflows (name, place);

CREATE TABLE workers (
  id TEXT NOT NULL UNIQUE,
  seen_at INTEGER NOT NULL,
  worker TEXT NOT NULL
);

CREATE TABLE dead_letters (
  id TEXT NOT NULL UNIQUE,
  at INTEGER NOT NULL,
  letter TEXT NOT NULL
);
CREATE INDEX dead_letters_by_age ON dead_letters (at, id);
