-- `claim_thread`, and for each known message id the last sequence number of the newest run that has it.
CREATE FUNCTION "agentrunner".claim_run(
  p_thread TEXT, p_run TEXT, p_input TEXT, p_agent TEXT, p_scope TEXT, p_owner TEXT, p_call BIGINT, p_ttl INTERVAL,
  p_ids BYTEA[], OUT outcome TEXT, OUT token BIGINT, OUT first_seq BIGINT, OUT incarnation BIGINT,
  OUT known BYTEA[], OUT known_seqs BIGINT[]
) LANGUAGE plpgsql AS $$
BEGIN
  -- Without ids, because the ids are looked up below. The call locks the thread, so no run ends in between.
  SELECT c.outcome, c.token, c.first_seq, c.incarnation INTO outcome, token, first_seq, incarnation
    FROM "agentrunner".claim_thread(p_thread, p_run, p_input, p_agent, p_scope, p_owner, p_call, p_ttl, '{}') c;
  IF outcome IS NULL THEN
    SELECT coalesce(array_agg(m.message_id), '{}'), coalesce(array_agg(m.last_seq), '{}') INTO known, known_seqs
      FROM "agentrunner".message_ids m WHERE m.thread_id = p_thread AND m.message_id = ANY (p_ids);
  END IF;
END $$;
