-- Records beside the runs. A record's thread need not exist.
CREATE TABLE "agentrunner".records (
  kind TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  thread_id TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL,
  value BYTEA NOT NULL,
  PRIMARY KEY (kind, key)
);
CREATE INDEX records_thread ON "agentrunner".records (thread_id, kind, key);
CREATE SEQUENCE "agentrunner".versions AS BIGINT;

-- The recent writes with the versions they made. A retry of a write whose reply was lost finds its result here.
CREATE TABLE "agentrunner".writes (
  call BIGINT PRIMARY KEY,
  versions BIGINT[] NOT NULL,
  at TIMESTAMPTZ NOT NULL
);
CREATE INDEX writes_at ON "agentrunner".writes (at);

-- Makes all changes, or none. They must be in the order of kind and key. `p_versions`: -1 expects any version.
-- `outcome` is NULL; 0 if the lease is lost; or the number of the change that does not find the record it expects.
CREATE FUNCTION "agentrunner".write(
  p_call BIGINT, p_again BOOLEAN, p_thread TEXT, p_token BIGINT, p_ttl INTERVAL, p_kinds TEXT[], p_keys TEXT[],
  p_threads TEXT[], p_values BYTEA[], p_removed BOOLEAN[], p_versions BIGINT[],
  OUT outcome INTEGER, OUT versions BIGINT[]
) LANGUAGE plpgsql AS $$
DECLARE
  change RECORD;
  kept RECORD;
  new_version BIGINT;
  made INTEGER[] := '{}';
  drawn BIGINT;
BEGIN
  -- The attempt before this one may still be under way.
  PERFORM pg_advisory_xact_lock(p_call);
  IF p_again THEN
    SELECT w.versions INTO versions FROM "agentrunner".writes w WHERE w.call = p_call;
    IF FOUND THEN
      RETURN;
    END IF;
  END IF;
  IF p_token IS NOT NULL THEN
    UPDATE "agentrunner".live_runs l SET expires_at = clock_timestamp() + p_ttl
      WHERE l.thread_id = p_thread AND l.token = p_token;
    IF NOT FOUND THEN
      outcome := 0;
      RETURN;
    END IF;
  END IF;
  versions := array_fill(0::bigint, ARRAY[cardinality(p_kinds)]);
  -- First insert the records that may be new: no other process sees them yet, and they can be deleted again. Then lock
  -- the records that exist.
  FOR change IN
    SELECT * FROM unnest(p_kinds, p_keys, p_threads, p_values, p_removed, p_versions) WITH ORDINALITY
      AS given (kind, key, thread_id, value, removed, version, n)
  LOOP
    CONTINUE WHEN change.removed OR change.version > 0;
    INSERT INTO "agentrunner".records AS r (kind, key, thread_id, version, value)
      VALUES (change.kind, change.key, change.thread_id, nextval('"agentrunner".versions'), change.value)
      ON CONFLICT DO NOTHING RETURNING r.version INTO new_version;
    IF FOUND THEN
      versions[change.n] := new_version;
      made := made || change.n::integer;
    END IF;
  END LOOP;
  FOR change IN
    SELECT * FROM unnest(p_kinds, p_keys, p_threads, p_removed, p_versions) WITH ORDINALITY
      AS given (kind, key, thread_id, removed, version, n)
  LOOP
    CONTINUE WHEN versions[change.n] > 0;
    SELECT r.thread_id, r.version INTO kept FROM "agentrunner".records r
      WHERE r.kind = change.kind AND r.key = change.key FOR UPDATE;
    IF kept.thread_id <> change.thread_id OR change.version NOT IN (-1, coalesce(kept.version, 0)) THEN
      DELETE FROM "agentrunner".records r USING unnest(made) AS n
        WHERE r.kind = p_kinds[n] AND r.key = p_keys[n];
      outcome := change.n;
      RETURN;
    END IF;
    IF kept.version IS NOT NULL THEN
      versions[change.n] := -1;
    ELSIF NOT change.removed THEN
      RAISE EXCEPTION 'it was there, and is gone: to be tried again' USING ERRCODE = '40001';
    END IF;
  END LOOP;
  -- A version drawn before its record was inserted may be lower than one that another process has given it meanwhile.
  IF made <> '{}' THEN
    SELECT v.last_value INTO drawn FROM "agentrunner".versions v;
    IF drawn <> versions[made[cardinality(made)]] OR drawn - versions[made[1]] >= cardinality(made) THEN
      FOR n IN 1 .. cardinality(made) LOOP
        UPDATE "agentrunner".records r SET version = nextval('"agentrunner".versions')
          WHERE r.kind = p_kinds[made[n]] AND r.key = p_keys[made[n]] RETURNING r.version INTO new_version;
        versions[made[n]] := new_version;
      END LOOP;
    END IF;
  END IF;
  FOR change IN
    SELECT * FROM unnest(p_kinds, p_keys, p_values, p_removed) WITH ORDINALITY AS given (kind, key, value, removed, n)
  LOOP
    -- Skip what was inserted above, and the removal of a record that did not exist: another process may have created it
    -- since.
    CONTINUE WHEN versions[change.n] >= 0;
    IF change.removed THEN
      DELETE FROM "agentrunner".records r WHERE r.kind = change.kind AND r.key = change.key;
      new_version := 0;
    ELSE
      UPDATE "agentrunner".records r SET version = nextval('"agentrunner".versions'), value = change.value
        WHERE r.kind = change.kind AND r.key = change.key RETURNING r.version INTO new_version;
    END IF;
    versions[change.n] := new_version;
  END LOOP;
  INSERT INTO "agentrunner".writes VALUES (p_call, versions, clock_timestamp());
  IF p_call % 64 = 0 THEN
    DELETE FROM "agentrunner".writes w WHERE w.call IN (
      SELECT o.call FROM "agentrunner".writes o WHERE o.at < clock_timestamp() - interval '10 minutes'
        ORDER BY o.at LIMIT 500 FOR UPDATE SKIP LOCKED);
  END IF;
END $$;

-- Deletes the records of threads, locking them in the same order as `write` does.
CREATE FUNCTION "agentrunner".forget(p_threads TEXT[]) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
  -- Only the locked records: waiting for one that was inserted meanwhile would break the order.
  WITH held AS (
    SELECT r.kind, r.key FROM "agentrunner".records r WHERE r.thread_id = ANY (p_threads) ORDER BY 1, 2 FOR UPDATE)
  DELETE FROM "agentrunner".records r USING held WHERE r.kind = held.kind AND r.key = held.key;
END $$;

-- The functions of the migration before, which now delete a thread's records too.

CREATE OR REPLACE FUNCTION "agentrunner".delete_thread(p_thread TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM "agentrunner".threads t WHERE t.thread_id = p_thread FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'ThreadNotFound';
  END IF;
  PERFORM 1 FROM "agentrunner".live_runs l WHERE l.thread_id = p_thread;
  IF FOUND THEN
    RETURN 'ThreadAlreadyRunning';
  END IF;
  PERFORM "agentrunner".forget(ARRAY[p_thread]);
  DELETE FROM "agentrunner".journal_expiry e WHERE e.thread_id = p_thread;
  DELETE FROM "agentrunner".journal j WHERE j.thread_id = p_thread;
  DELETE FROM "agentrunner".message_ids m WHERE m.thread_id = p_thread;
  DELETE FROM "agentrunner".runs r WHERE r.thread_id = p_thread;
  DELETE FROM "agentrunner".threads t WHERE t.thread_id = p_thread;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION "agentrunner".clear(p_any BOOLEAN, p_scope TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
  chosen TEXT[];
BEGIN
  chosen := ARRAY(SELECT t.thread_id FROM "agentrunner".threads t
    WHERE p_any OR t.scope IS NOT DISTINCT FROM p_scope ORDER BY t.thread_id FOR UPDATE);
  -- Checked under the locks, so that none of their runs begins or ends meanwhile.
  chosen := ARRAY(SELECT c.thread_id FROM unnest(chosen) AS c (thread_id)
    WHERE NOT EXISTS (SELECT FROM "agentrunner".live_runs l WHERE l.thread_id = c.thread_id));
  PERFORM "agentrunner".forget(chosen);
  DELETE FROM "agentrunner".journal_expiry e WHERE e.thread_id = ANY (chosen);
  DELETE FROM "agentrunner".journal j WHERE j.thread_id = ANY (chosen);
  DELETE FROM "agentrunner".message_ids m WHERE m.thread_id = ANY (chosen);
  DELETE FROM "agentrunner".runs r WHERE r.thread_id = ANY (chosen);
  DELETE FROM "agentrunner".threads t WHERE t.thread_id = ANY (chosen);
END $$;

CREATE OR REPLACE FUNCTION "agentrunner".prune_thread(p_thread TEXT, p_max BIGINT, p_before BIGINT, p_limit BIGINT)
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
  IF FOUND THEN
    PERFORM "agentrunner".forget(ARRAY[p_thread]);
  END IF;
  RETURN gone;
END $$;
