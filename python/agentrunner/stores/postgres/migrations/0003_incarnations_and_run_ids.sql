-- A thread that is deleted and created again has another incarnation, and its sequence numbers begin after those of the
-- thread before it, so that an old cursor is never taken for one of the new thread.
ALTER TABLE "agentrunner".threads
  ADD COLUMN incarnation BIGINT NOT NULL DEFAULT -1,
  ADD COLUMN base_seq BIGINT NOT NULL DEFAULT 0;  -- last sequence number of earlier incarnations

-- Threads of which only the raw frames of a run are left that was not stored.
CREATE TABLE "agentrunner".leftovers (
  thread_id TEXT COLLATE "C" PRIMARY KEY,
  scope TEXT COLLATE "C",
  incarnation BIGINT NOT NULL,
  base_seq BIGINT NOT NULL
);

CREATE VIEW "agentrunner".known_threads AS
  SELECT thread_id, scope, incarnation, base_seq FROM "agentrunner".threads
  UNION ALL SELECT thread_id, scope, incarnation, base_seq FROM "agentrunner".leftovers l
    WHERE NOT EXISTS (SELECT FROM "agentrunner".threads t WHERE t.thread_id = l.thread_id);

-- The greatest last sequence number of all deleted threads whose ids have the same hash. One row for each deleted thread
-- would grow for ever.
CREATE TABLE "agentrunner".floors (hash INTEGER PRIMARY KEY, seq BIGINT NOT NULL);

CREATE FUNCTION "agentrunner".hash_thread(p_thread TEXT) RETURNS INTEGER LANGUAGE sql IMMUTABLE AS $$
  SELECT get_byte(sha256(convert_to(p_thread, 'UTF8')), 0) * 256 + get_byte(sha256(convert_to(p_thread, 'UTF8')), 1)
$$;

CREATE FUNCTION "agentrunner".raise_floor() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.head_seq > 0 THEN
    INSERT INTO "agentrunner".floors AS f VALUES ("agentrunner".hash_thread(OLD.thread_id), OLD.head_seq)
      ON CONFLICT (hash) DO UPDATE SET seq = excluded.seq WHERE f.seq < excluded.seq;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER threads_floor AFTER DELETE ON "agentrunner".threads
  FOR EACH ROW EXECUTE FUNCTION "agentrunner".raise_floor();

-- Run ids are unique within a thread: one tenant must not learn which ids another has used, nor take them first.
ALTER TABLE "agentrunner".runs DROP CONSTRAINT runs_pkey, ADD PRIMARY KEY (thread_id, run_id);

CREATE OR REPLACE FUNCTION "agentrunner".lock_thread(p_thread TEXT, p_scope TEXT, p_agent TEXT)
RETURNS "agentrunner".threads LANGUAGE plpgsql AS $$
DECLARE
  thread "agentrunner".threads;
  leftover "agentrunner".leftovers;
  at_ms BIGINT := "agentrunner".now_ms();
BEGIN
  LOOP
    SELECT * INTO thread FROM "agentrunner".threads t WHERE t.thread_id = p_thread FOR UPDATE;
    IF FOUND THEN
      RETURN thread;
    END IF;
    INSERT INTO "agentrunner".threads (thread_id, scope, agent_id, created_at, updated_at, incarnation)
      VALUES (p_thread, p_scope, p_agent, at_ms, at_ms, nextval('"agentrunner".tokens'))
      ON CONFLICT DO NOTHING;
    CONTINUE WHEN NOT FOUND;
    -- The frames of a first run that was not stored may still be there: the next run begins after them.
    UPDATE "agentrunner".threads t SET head_seq = e.last_seq, base_seq = e.last_seq
      FROM (SELECT max(x.last_seq) AS last_seq FROM "agentrunner".journal_expiry x WHERE x.thread_id = p_thread) e
      WHERE t.thread_id = p_thread AND e.last_seq IS NOT NULL;
    -- That run ended no life of the thread: its readers continue with the next run of their scope.
    DELETE FROM "agentrunner".leftovers l WHERE l.thread_id = p_thread RETURNING * INTO leftover;
    IF FOUND AND leftover.scope IS NOT DISTINCT FROM p_scope THEN
      UPDATE "agentrunner".threads t SET incarnation = leftover.incarnation, base_seq = leftover.base_seq
        WHERE t.thread_id = p_thread;
    END IF;
  END LOOP;
END $$;

CREATE OR REPLACE FUNCTION "agentrunner".claim(
  p_thread TEXT, p_run TEXT, p_input TEXT, p_agent TEXT, p_scope TEXT, p_owner TEXT, p_call BIGINT, p_ttl INTERVAL,
  p_ids BYTEA[], OUT outcome TEXT, OUT token BIGINT, OUT first_seq BIGINT, OUT known BYTEA[]
) LANGUAGE plpgsql AS $$
DECLARE
  thread "agentrunner".threads;
  lease "agentrunner".live_runs;
  floor BIGINT;
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
    IF thread.runs = 0 THEN
      SELECT f.seq INTO floor FROM "agentrunner".floors f WHERE f.hash = "agentrunner".hash_thread(p_thread);
      IF floor > thread.head_seq THEN
        UPDATE "agentrunner".threads t SET head_seq = floor,
            base_seq = CASE WHEN t.base_seq = t.head_seq THEN floor ELSE t.base_seq END
          WHERE t.thread_id = p_thread;
        thread.head_seq := floor;
      END IF;
    END IF;
    INSERT INTO "agentrunner".runs (run_id, thread_id, agent_id, input, first_seq)
      VALUES (p_run, p_thread, p_agent, p_input, thread.head_seq + 1) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
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

-- `claim`, and the thread's incarnation.
CREATE FUNCTION "agentrunner".claim_thread(
  p_thread TEXT, p_run TEXT, p_input TEXT, p_agent TEXT, p_scope TEXT, p_owner TEXT, p_call BIGINT, p_ttl INTERVAL,
  p_ids BYTEA[], OUT outcome TEXT, OUT token BIGINT, OUT first_seq BIGINT, OUT known BYTEA[], OUT incarnation BIGINT
) LANGUAGE plpgsql AS $$
BEGIN
  SELECT c.outcome, c.token, c.first_seq, c.known INTO outcome, token, first_seq, known
    FROM "agentrunner".claim(p_thread, p_run, p_input, p_agent, p_scope, p_owner, p_call, p_ttl, p_ids) c;
  SELECT t.incarnation INTO incarnation FROM "agentrunner".threads t WHERE t.thread_id = p_thread;
END $$;

CREATE OR REPLACE FUNCTION "agentrunner".finish(
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
      THEN EXISTS (
        SELECT FROM "agentrunner".runs r WHERE r.thread_id = p_thread AND r.run_id = p_run AND r.token = p_token)
      ELSE NOT EXISTS (SELECT FROM "agentrunner".runs r WHERE r.thread_id = p_thread AND r.run_id = p_run) END;
  END IF;
  head := greatest(p_last, lease.last_seq);
  IF head >= lease.first_seq THEN
    INSERT INTO "agentrunner".journal_expiry VALUES (p_thread, lease.first_seq, head, clock_timestamp() + p_resume);
  END IF;
  IF NOT p_stored THEN
    DELETE FROM "agentrunner".runs r WHERE r.thread_id = p_thread AND r.run_id = p_run;
    UPDATE "agentrunner".threads t SET head_seq = head WHERE t.thread_id = p_thread;
    IF thread.runs = 0 THEN
      -- Nothing is left of the thread but raw frames, and the next claim may create it in any scope.
      IF head >= lease.first_seq THEN
        INSERT INTO "agentrunner".leftovers VALUES (p_thread, thread.scope, thread.incarnation, thread.base_seq)
          ON CONFLICT (thread_id) DO UPDATE SET scope = excluded.scope, incarnation = excluded.incarnation,
            base_seq = excluded.base_seq;
      END IF;
      DELETE FROM "agentrunner".threads t WHERE t.thread_id = p_thread;
    END IF;
    RETURN true;
  END IF;
  -- Times never go backwards, so that the order of the list is the order of the runs.
  at_ms := greatest("agentrunner".now_ms(), thread.updated_at);
  UPDATE "agentrunner".runs r SET last_seq = p_last, token = p_token, events = p_events, created_at = at_ms,
      parent_run_id = (SELECT earlier.run_id FROM "agentrunner".runs earlier
                       WHERE earlier.thread_id = p_thread AND earlier.last_seq IS NOT NULL
                       ORDER BY earlier.last_seq DESC LIMIT 1)
    WHERE r.thread_id = p_thread AND r.run_id = p_run;
  UPDATE "agentrunner".threads t SET head_seq = head, runs = t.runs + 1, updated_at = at_ms,
      created_at = CASE WHEN t.runs = 0 THEN at_ms ELSE t.created_at END,
      agent_id = coalesce((SELECT r.agent_id FROM "agentrunner".runs r
                           WHERE r.thread_id = p_thread AND r.run_id = p_run), t.agent_id)
    WHERE t.thread_id = p_thread;
  INSERT INTO "agentrunner".message_ids AS m
    SELECT DISTINCT p_thread, id, p_last FROM unnest(p_ids) AS id
    ON CONFLICT (thread_id, message_id) DO UPDATE SET last_seq = excluded.last_seq;
  RETURN true;
END $$;

-- Deletes a thread if it is the one that is meant: in this scope unless `p_any`, and of this incarnation unless NULL.
CREATE FUNCTION "agentrunner".delete_thread(p_thread TEXT, p_any BOOLEAN, p_scope TEXT, p_incarnation BIGINT)
RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM "agentrunner".threads t WHERE t.thread_id = p_thread
    AND (p_any OR t.scope IS NOT DISTINCT FROM p_scope) AND coalesce(t.incarnation = p_incarnation, true) FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'ThreadNotFound';
  END IF;
  RETURN "agentrunner".delete_thread(p_thread);
END $$;

CREATE OR REPLACE FUNCTION "agentrunner".put(
  p_thread TEXT, p_name TEXT, p_agent TEXT, p_scope TEXT, p_archived BOOLEAN, p_created BIGINT, p_updated BIGINT,
  p_runs TEXT[], p_firsts BIGINT[], p_lasts BIGINT[], p_events BYTEA[], p_inputs TEXT[], p_times BIGINT[],
  p_ids BYTEA[], p_id_runs BIGINT[]
) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  thread "agentrunner".threads;
  run RECORD;
  parent TEXT;
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
    CONTINUE WHEN NOT FOUND;
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

CREATE OR REPLACE FUNCTION "agentrunner".mend() RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM "agentrunner".live_runs l WHERE NOT EXISTS (
    SELECT FROM "agentrunner".runs r
      WHERE r.thread_id = l.thread_id AND r.run_id = l.run_id AND r.last_seq IS NULL);
  DELETE FROM "agentrunner".runs r WHERE r.last_seq IS NULL AND NOT EXISTS (
    SELECT FROM "agentrunner".live_runs l WHERE l.thread_id = r.thread_id AND l.run_id = r.run_id);
  DELETE FROM "agentrunner".threads t WHERE t.runs = 0
    AND NOT EXISTS (SELECT FROM "agentrunner".live_runs l WHERE l.thread_id = t.thread_id);
  UPDATE "agentrunner".runs r SET parent_run_id = (
      SELECT earlier.run_id FROM "agentrunner".runs earlier
        WHERE earlier.thread_id = r.thread_id AND earlier.last_seq < r.first_seq ORDER BY earlier.last_seq DESC LIMIT 1)
    WHERE r.parent_run_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM "agentrunner".runs p WHERE p.run_id = r.parent_run_id AND p.thread_id = r.thread_id);
END $$;
