-- Gives a thread to another scope if it is the one that is meant, as `delete_thread` checks. `p_again`: this is a retry, so
-- an earlier attempt may have moved the thread already.
CREATE FUNCTION "agentrunner".move_thread(
  p_thread TEXT, p_to TEXT, p_any BOOLEAN, p_scope TEXT, p_incarnation BIGINT, p_again BOOLEAN
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
  thread "agentrunner".threads;
BEGIN
  -- A claim locks the same row first, so no run begins between the check and the update.
  SELECT * INTO thread FROM "agentrunner".threads t WHERE t.thread_id = p_thread
    AND coalesce(t.incarnation = p_incarnation, true) FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'ThreadNotFound';
  END IF;
  IF NOT p_any AND thread.scope IS DISTINCT FROM p_scope THEN
    RETURN CASE WHEN p_again AND thread.scope IS NOT DISTINCT FROM p_to THEN NULL ELSE 'ThreadNotFound' END;
  END IF;
  PERFORM 1 FROM "agentrunner".live_runs l WHERE l.thread_id = p_thread;
  IF FOUND THEN
    RETURN 'ThreadAlreadyRunning';
  END IF;
  UPDATE "agentrunner".threads t SET scope = p_to WHERE t.thread_id = p_thread;
  RETURN NULL;
END $$;
