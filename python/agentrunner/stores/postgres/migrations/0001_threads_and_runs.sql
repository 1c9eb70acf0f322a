-- "agentrunner" stands for the name of the store's schema. Ids are compared byte by byte, as in every other store.

-- A thread's row is also its lock: each function that begins, ends, copies, prunes or deletes locks it first. A thread
-- with neither a stored run nor a live one has no row.
CREATE TABLE "agentrunner".threads (
  thread_id TEXT COLLATE "C" PRIMARY KEY,
  name TEXT,
  agent_id TEXT COLLATE "C",
  scope TEXT COLLATE "C",
  archived BOOLEAN NOT NULL DEFAULT false,
  head_seq BIGINT NOT NULL DEFAULT 0,  -- last sequence number of its ended runs
  runs BIGINT NOT NULL DEFAULT 0,      -- number of its stored runs
  created_at BIGINT NOT NULL,          -- milliseconds since 1970, as thread lists show them
  updated_at BIGINT NOT NULL
);
CREATE INDEX threads_updated ON "agentrunner".threads (updated_at, thread_id);
CREATE INDEX threads_scope ON "agentrunner".threads (scope, updated_at, thread_id);
CREATE INDEX threads_runs ON "agentrunner".threads (runs);

-- A run, from its claim on: one that is also in `live_runs` has no end yet. Run ids are unique in the whole store.
CREATE TABLE "agentrunner".runs (
  run_id TEXT COLLATE "C" PRIMARY KEY,
  thread_id TEXT COLLATE "C" NOT NULL,
  parent_run_id TEXT COLLATE "C",
  agent_id TEXT COLLATE "C",
  input TEXT NOT NULL,
  first_seq BIGINT NOT NULL,
  last_seq BIGINT,                     -- this and all below: NULL while it is live
  token BIGINT,                        -- fencing token under which it was finished
  events BYTEA,                        -- compacted, a JSON array; JSONB would refuse \u0000
  created_at BIGINT,
  CHECK ((last_seq IS NULL) = (events IS NULL))
);
CREATE INDEX runs_chain ON "agentrunner".runs (thread_id, last_seq);
CREATE INDEX runs_age ON "agentrunner".runs (created_at);

-- The leases. Each append updates a row here, so rows are small, and no column that an append changes is in an index
-- (HOT updates).
CREATE TABLE "agentrunner".live_runs (
  thread_id TEXT COLLATE "C" PRIMARY KEY,
  run_id TEXT COLLATE "C" NOT NULL,
  token BIGINT NOT NULL,
  owner TEXT NOT NULL,
  call BIGINT NOT NULL,                -- call number, by which the retry of a claim is recognized
  expires_at TIMESTAMPTZ NOT NULL,
  stop_call BIGINT,                    -- call number of the request to stop it
  followed_until TIMESTAMPTZ,          -- until then, other processes are notified of appends
  first_seq BIGINT NOT NULL,
  last_seq BIGINT NOT NULL             -- last sequence number in its journal
) WITH (fillfactor = 50);
CREATE INDEX live_runs_stops ON "agentrunner".live_runs (token) WHERE stop_call IS NOT NULL;
CREATE SEQUENCE "agentrunner".tokens AS BIGINT;

-- Raw frames, one row for each batch. Up to 8 kB they are stored neither compressed nor out of line.
CREATE TABLE "agentrunner".journal (
  thread_id TEXT COLLATE "C" NOT NULL,
  first_seq BIGINT NOT NULL,
  last_seq BIGINT NOT NULL,
  frames BYTEA NOT NULL,
  PRIMARY KEY (thread_id, last_seq)
) WITH (toast_tuple_target = 8160);

-- The times until which ended runs' frames are kept. A row is deleted only with the last of the frames, because a
-- thread without stored runs takes its next sequence number from here.
CREATE TABLE "agentrunner".journal_expiry (
  thread_id TEXT COLLATE "C" NOT NULL,
  first_seq BIGINT NOT NULL,
  last_seq BIGINT NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (thread_id, first_seq)
);
CREATE INDEX journal_expiry_time ON "agentrunner".journal_expiry (expires_at);

-- The message ids of a thread's stored runs, each with the last sequence number of the newest run that has it. They are
-- BYTEA because TEXT refuses NUL.
CREATE TABLE "agentrunner".message_ids (
  thread_id TEXT COLLATE "C" NOT NULL,
  message_id BYTEA NOT NULL,
  last_seq BIGINT NOT NULL,
  PRIMARY KEY (thread_id, message_id)
);

-- Each method that writes is one statement, so that a process that is suspended in the middle holds no lock.

CREATE FUNCTION "agentrunner".now_ms() RETURNS BIGINT LANGUAGE sql VOLATILE AS
  $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- Locks a thread's row, and inserts it first if the thread has no run.
CREATE FUNCTION "agentrunner".lock_thread(p_thread TEXT, p_scope TEXT, p_agent TEXT) RETURNS "agentrunner".threads
LANGUAGE plpgsql AS $$
DECLARE
  thread "agentrunner".threads;
  at_ms BIGINT := "agentrunner".now_ms();
BEGIN
  LOOP
    SELECT * INTO thread FROM "agentrunner".threads t WHERE t.thread_id = p_thread FOR UPDATE;
    IF FOUND THEN
      RETURN thread;
    END IF;
    INSERT INTO "agentrunner".threads (thread_id, scope, agent_id, created_at, updated_at)
      VALUES (p_thread, p_scope, p_agent, at_ms, at_ms)
      ON CONFLICT DO NOTHING;
    -- The frames of a first run that was not stored may still be there: the next run begins after them.
    UPDATE "agentrunner".threads t SET head_seq = e.last_seq
      FROM (SELECT max(x.last_seq) AS last_seq FROM "agentrunner".journal_expiry x WHERE x.thread_id = p_thread) e
      WHERE FOUND AND t.thread_id = p_thread AND e.last_seq IS NOT NULL;
  END LOOP;
END $$;

-- `outcome` is NULL, or the name of the error.
CREATE FUNCTION "agentrunner".claim(
  p_thread TEXT, p_run TEXT, p_input TEXT, p_agent TEXT, p_scope TEXT, p_owner TEXT, p_call BIGINT, p_ttl INTERVAL,
  p_ids BYTEA[], OUT outcome TEXT, OUT token BIGINT, OUT first_seq BIGINT, OUT known BYTEA[]
) LANGUAGE plpgsql AS $$
DECLARE
  thread "agentrunner".threads;
  lease "agentrunner".live_runs;
BEGIN
  SELECT * INTO thread FROM "agentrunner".lock_thread(p_thread, p_scope, p_agent);
  IF thread.scope IS DISTINCT FROM p_scope THEN
    outcome := 'ThreadNotFound';
    RETURN;
  END IF;
  SELECT * INTO lease FROM "agentrunner".live_runs l WHERE l.thread_id = p_thread;
  IF FOUND AND (lease.owner <> p_owner OR lease.call <> p_call) THEN
    outcome := 'ThreadAlreadyRunning';
    RETURN;
  END IF;
  IF NOT FOUND THEN
    INSERT INTO "agentrunner".runs (run_id, thread_id, agent_id, input, first_seq)
      VALUES (p_run, p_thread, p_agent, p_input, thread.head_seq + 1) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      DELETE FROM "agentrunner".threads t WHERE t.thread_id = p_thread AND t.runs = 0;
      outcome := 'RunAlreadyExists';
      RETURN;
    END IF;
    INSERT INTO "agentrunner".live_runs
      (thread_id, run_id, token, owner, call, expires_at, first_seq, last_seq)
      VALUES (p_thread, p_run, nextval('"agentrunner".tokens'), p_owner, p_call, clock_timestamp() + p_ttl,
              thread.head_seq + 1, thread.head_seq)
      RETURNING * INTO lease;
  END IF;
  token := lease.token;
  first_seq := lease.first_seq;
  known := ARRAY(SELECT m.message_id FROM "agentrunner".message_ids m
                 WHERE m.thread_id = p_thread AND m.message_id = ANY (p_ids));
END $$;

-- Returns 0: kept; 1: kept, and another process follows the run; 2: the lease is lost; 3: the batch does not follow the
-- run's last frames.
CREATE FUNCTION "agentrunner".append_one(
  p_thread TEXT, p_token BIGINT, p_first BIGINT, p_last BIGINT, p_frames BYTEA, p_ttl INTERVAL
) RETURNS INTEGER LANGUAGE plpgsql AS $$
DECLARE
  followed BOOLEAN;
BEGIN
  UPDATE "agentrunner".live_runs l SET expires_at = clock_timestamp() + p_ttl, last_seq = p_last
    WHERE l.thread_id = p_thread AND l.token = p_token AND l.last_seq = p_first - 1
    RETURNING l.followed_until > clock_timestamp() INTO followed;
  IF FOUND THEN
    INSERT INTO "agentrunner".journal (thread_id, first_seq, last_seq, frames)
      VALUES (p_thread, p_first, p_last, p_frames);
    RETURN CASE WHEN followed THEN 1 ELSE 0 END;
  END IF;
  UPDATE "agentrunner".live_runs l SET expires_at = clock_timestamp() + p_ttl
    WHERE l.thread_id = p_thread AND l.token = p_token;
  IF NOT FOUND THEN
    RETURN 2;
  END IF;
  -- A batch that is sent again because the reply was lost is there already.
  PERFORM 1 FROM "agentrunner".journal j WHERE j.thread_id = p_thread AND j.last_seq = p_last
    AND j.first_seq = p_first AND j.frames = p_frames;
  RETURN CASE WHEN FOUND THEN 1 ELSE 3 END;
END $$;

CREATE FUNCTION "agentrunner".append(
  p_threads TEXT[], p_tokens BIGINT[], p_firsts BIGINT[], p_lasts BIGINT[], p_frames BYTEA[], p_ttl INTERVAL
) RETURNS SETOF INTEGER LANGUAGE plpgsql AS $$
BEGIN
  FOR n IN 1 .. cardinality(p_threads) LOOP
    RETURN NEXT "agentrunner".append_one(p_threads[n], p_tokens[n], p_firsts[n], p_lasts[n], p_frames[n], p_ttl);
  END LOOP;
END $$;

-- Returns false, and writes nothing, if the lease is lost. `p_again`: this is a retry, so the run may have ended
-- already.
CREATE FUNCTION "agentrunner".finish(
  p_thread TEXT, p_run TEXT, p_token BIGINT, p_stored BOOLEAN, p_last BIGINT, p_events BYTEA, p_ids BYTEA[],
  p_resume INTERVAL, p_again BOOLEAN
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
  thread "agentrunner".threads;
  lease "agentrunner".live_runs;
  at_ms BIGINT;
  head BIGINT;
BEGIN
  SELECT * INTO thread FROM "agentrunner".threads t WHERE t.thread_id = p_thread FOR UPDATE;
  DELETE FROM "agentrunner".live_runs l WHERE l.thread_id = p_thread AND l.token = p_token RETURNING * INTO lease;
  IF NOT FOUND THEN
    RETURN p_again AND CASE WHEN p_stored
      THEN EXISTS (SELECT FROM "agentrunner".runs r WHERE r.run_id = p_run AND r.token = p_token)
      ELSE NOT EXISTS (SELECT FROM "agentrunner".runs r WHERE r.run_id = p_run) END;
  END IF;
  head := greatest(p_last, lease.last_seq);
  IF head >= lease.first_seq THEN
    INSERT INTO "agentrunner".journal_expiry VALUES (p_thread, lease.first_seq, head, clock_timestamp() + p_resume);
  END IF;
  IF NOT p_stored THEN
    DELETE FROM "agentrunner".runs r WHERE r.run_id = p_run;
    -- Nothing is left of the thread, and the next claim may create it in any scope.
    DELETE FROM "agentrunner".threads t WHERE t.thread_id = p_thread AND t.runs = 0;
    IF NOT FOUND THEN
      UPDATE "agentrunner".threads t SET head_seq = head WHERE t.thread_id = p_thread;
    END IF;
    RETURN true;
  END IF;
  -- Times never go backwards, so that the order of the list is the order of the runs.
  at_ms := greatest("agentrunner".now_ms(), thread.updated_at);
  UPDATE "agentrunner".runs r SET last_seq = p_last, token = p_token, events = p_events, created_at = at_ms,
      parent_run_id = (SELECT earlier.run_id FROM "agentrunner".runs earlier
                       WHERE earlier.thread_id = p_thread AND earlier.last_seq IS NOT NULL
                       ORDER BY earlier.last_seq DESC LIMIT 1)
    WHERE r.run_id = p_run;
  UPDATE "agentrunner".threads t SET head_seq = head, runs = t.runs + 1, updated_at = at_ms,
      created_at = CASE WHEN t.runs = 0 THEN at_ms ELSE t.created_at END,
      agent_id = coalesce((SELECT r.agent_id FROM "agentrunner".runs r WHERE r.run_id = p_run), t.agent_id)
    WHERE t.thread_id = p_thread;
  INSERT INTO "agentrunner".message_ids AS m
    SELECT DISTINCT p_thread, id, p_last FROM unnest(p_ids) AS id
    ON CONFLICT (thread_id, message_id) DO UPDATE SET last_seq = excluded.last_seq;
  RETURN true;
END $$;

-- Deletes expired frames, `p_rows` rows at most; returns the number of deleted rows.
CREATE FUNCTION "agentrunner".trim_journal(p_rows INTEGER) RETURNS INTEGER LANGUAGE plpgsql AS $$
DECLARE
  expired "agentrunner".journal_expiry;
  left_over INTEGER := p_rows;
  gone INTEGER;
BEGIN
  WHILE left_over > 0 LOOP
    SELECT * INTO expired FROM "agentrunner".journal_expiry e WHERE e.expires_at < now()
      ORDER BY e.expires_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    EXIT WHEN NOT FOUND;
    DELETE FROM "agentrunner".journal j WHERE j.thread_id = expired.thread_id AND j.last_seq IN (
      SELECT k.last_seq FROM "agentrunner".journal k WHERE k.thread_id = expired.thread_id
        AND k.last_seq BETWEEN expired.first_seq AND expired.last_seq ORDER BY k.last_seq LIMIT left_over);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone < left_over THEN
      DELETE FROM "agentrunner".journal_expiry e
        WHERE e.thread_id = expired.thread_id AND e.first_seq = expired.first_seq;
    END IF;
    left_over := left_over - gone - 1;
  END LOOP;
  RETURN p_rows - left_over;
END $$;

CREATE FUNCTION "agentrunner".delete_thread(p_thread TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM "agentrunner".threads t WHERE t.thread_id = p_thread FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'ThreadNotFound';
  END IF;
  PERFORM 1 FROM "agentrunner".live_runs l WHERE l.thread_id = p_thread;
  IF FOUND THEN
    RETURN 'ThreadAlreadyRunning';
  END IF;
  DELETE FROM "agentrunner".journal_expiry e WHERE e.thread_id = p_thread;
  DELETE FROM "agentrunner".journal j WHERE j.thread_id = p_thread;
  DELETE FROM "agentrunner".message_ids m WHERE m.thread_id = p_thread;
  DELETE FROM "agentrunner".runs r WHERE r.thread_id = p_thread;
  DELETE FROM "agentrunner".threads t WHERE t.thread_id = p_thread;
  RETURN NULL;
END $$;

-- Deletes the scope's threads, or all with `p_any`, that have no live run.
CREATE FUNCTION "agentrunner".clear(p_any BOOLEAN, p_scope TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  chosen TEXT[];
BEGIN
  chosen := ARRAY(SELECT t.thread_id FROM "agentrunner".threads t
    WHERE p_any OR t.scope IS NOT DISTINCT FROM p_scope ORDER BY t.thread_id FOR UPDATE);
  -- Checked under the locks, so that none of their runs begins or ends meanwhile.
  chosen := ARRAY(SELECT c.thread_id FROM unnest(chosen) AS c (thread_id)
    WHERE NOT EXISTS (SELECT FROM "agentrunner".live_runs l WHERE l.thread_id = c.thread_id));
  DELETE FROM "agentrunner".journal_expiry e WHERE e.thread_id = ANY (chosen);
  DELETE FROM "agentrunner".journal j WHERE j.thread_id = ANY (chosen);
  DELETE FROM "agentrunner".message_ids m WHERE m.thread_id = ANY (chosen);
  DELETE FROM "agentrunner".runs r WHERE r.thread_id = ANY (chosen);
  DELETE FROM "agentrunner".threads t WHERE t.thread_id = ANY (chosen);
END $$;

-- Adds runs after those that a thread has, all or none: an exception tells why they cannot be added.
CREATE FUNCTION "agentrunner".put(
  p_thread TEXT, p_name TEXT, p_agent TEXT, p_scope TEXT, p_archived BOOLEAN, p_created BIGINT, p_updated BIGINT,
  p_runs TEXT[], p_firsts BIGINT[], p_lasts BIGINT[], p_events BYTEA[], p_inputs TEXT[], p_times BIGINT[],
  p_ids BYTEA[], p_id_runs BIGINT[]
) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  thread "agentrunner".threads;
  run RECORD;
  parent TEXT;
  whose TEXT;
  added BIGINT := 0;
BEGIN
  SELECT * INTO thread FROM "agentrunner".lock_thread(p_thread, p_scope, p_agent);
  PERFORM 1 FROM "agentrunner".live_runs l WHERE l.thread_id = p_thread;
  IF FOUND THEN
    RAISE EXCEPTION 'Thread already running' USING ERRCODE = 'AR001';
  END IF;
  SELECT r.run_id INTO parent FROM "agentrunner".runs r WHERE r.thread_id = p_thread AND r.last_seq IS NOT NULL
    ORDER BY r.last_seq DESC LIMIT 1;
  FOR run IN
    SELECT * FROM unnest(p_runs, p_firsts, p_lasts, p_events, p_inputs, p_times)
      AS given (run_id, first_seq, last_seq, events, input, created_at)
  LOOP
    INSERT INTO "agentrunner".runs AS r
      (run_id, thread_id, parent_run_id, input, first_seq, last_seq, events, created_at)
      VALUES (run.run_id, p_thread, parent, run.input, run.first_seq, run.last_seq, run.events, run.created_at)
      ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      SELECT r.thread_id INTO whose FROM "agentrunner".runs r WHERE r.run_id = run.run_id;
      CONTINUE WHEN whose = p_thread;
      RAISE EXCEPTION 'run ''%'' exists already, in another thread', run.run_id USING ERRCODE = 'AR002';
    END IF;
    IF run.first_seq <= thread.head_seq THEN
      RAISE EXCEPTION 'thread ''%'' has runs of its own up to %, behind which none fit', p_thread, thread.head_seq
        USING ERRCODE = 'AR003';
    END IF;
    thread.head_seq := run.last_seq;
    parent := run.run_id;
    added := added + 1;
    INSERT INTO "agentrunner".message_ids AS m
      SELECT DISTINCT p_thread, given.id, run.last_seq FROM unnest(p_ids, p_id_runs) AS given (id, last_seq)
        WHERE given.last_seq = run.last_seq
      ON CONFLICT (thread_id, message_id) DO UPDATE SET last_seq = excluded.last_seq;
  END LOOP;
  IF thread.runs + added = 0 THEN
    DELETE FROM "agentrunner".threads t WHERE t.thread_id = p_thread;
    RETURN;
  END IF;
  UPDATE "agentrunner".threads t SET name = p_name, agent_id = p_agent, scope = p_scope, archived = p_archived,
      created_at = p_created, updated_at = p_updated, head_seq = thread.head_seq, runs = t.runs + added
    WHERE t.thread_id = p_thread;
END $$;

-- Deletes a thread's oldest runs, `p_limit` at most; returns the number of deleted runs.
CREATE FUNCTION "agentrunner".prune_thread(p_thread TEXT, p_max BIGINT, p_before BIGINT, p_limit BIGINT)
RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
  thread "agentrunner".threads;
  run RECORD;
  gone BIGINT := 0;
  up_to BIGINT := 0;
BEGIN
  SELECT * INTO thread FROM "agentrunner".threads t WHERE t.thread_id = p_thread FOR UPDATE;
  FOR run IN
    SELECT r.last_seq, r.created_at FROM "agentrunner".runs r
      WHERE r.thread_id = p_thread AND r.last_seq IS NOT NULL ORDER BY r.last_seq LIMIT p_limit
  LOOP
    EXIT WHEN NOT coalesce(thread.runs - gone > p_max, false) AND NOT coalesce(run.created_at < p_before, false);
    gone := gone + 1;
    up_to := run.last_seq;
  END LOOP;
  IF gone = 0 THEN
    RETURN 0;
  END IF;
  DELETE FROM "agentrunner".journal_expiry e WHERE e.thread_id = p_thread AND e.first_seq <= up_to;
  DELETE FROM "agentrunner".journal j WHERE j.thread_id = p_thread AND j.last_seq <= up_to;
  DELETE FROM "agentrunner".message_ids m WHERE m.thread_id = p_thread AND m.last_seq <= up_to;
  DELETE FROM "agentrunner".runs r WHERE r.thread_id = p_thread AND r.last_seq <= up_to;
  UPDATE "agentrunner".runs r SET parent_run_id = NULL
    WHERE r.thread_id = p_thread AND r.last_seq = (
      SELECT min(s.last_seq) FROM "agentrunner".runs s WHERE s.thread_id = p_thread);
  UPDATE "agentrunner".threads t SET runs = t.runs - gone WHERE t.thread_id = p_thread;
  DELETE FROM "agentrunner".threads t WHERE t.thread_id = p_thread AND t.runs = 0
    AND NOT EXISTS (SELECT FROM "agentrunner".live_runs l WHERE l.thread_id = p_thread);
  RETURN gone;
END $$;

-- Repairs for `agentrunner doctor --fix`: runs and leases that nothing would ever end, and missing parents.
CREATE FUNCTION "agentrunner".mend() RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM "agentrunner".live_runs l
    WHERE NOT EXISTS (SELECT FROM "agentrunner".runs r WHERE r.run_id = l.run_id AND r.last_seq IS NULL);
  DELETE FROM "agentrunner".runs r WHERE r.last_seq IS NULL
    AND NOT EXISTS (SELECT FROM "agentrunner".live_runs l WHERE l.run_id = r.run_id);
  DELETE FROM "agentrunner".threads t WHERE t.runs = 0
    AND NOT EXISTS (SELECT FROM "agentrunner".live_runs l WHERE l.thread_id = t.thread_id);
  UPDATE "agentrunner".runs r SET parent_run_id = (
      SELECT earlier.run_id FROM "agentrunner".runs earlier
        WHERE earlier.thread_id = r.thread_id AND earlier.last_seq < r.first_seq ORDER BY earlier.last_seq DESC LIMIT 1)
    WHERE r.parent_run_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM "agentrunner".runs p WHERE p.run_id = r.parent_run_id AND p.thread_id = r.thread_id);
END $$;
