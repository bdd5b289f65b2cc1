-- The run whose call a run answers, so that those below others need not be read to be passed over.
ALTER TABLE axon_runs ADD COLUMN parent TEXT;
CREATE INDEX axon_runs_top_level ON axon_runs (accepted_at, id) WHERE parent IS NULL;

-- It stands in the first record. What a damaged one says is told by a thorough check.
CREATE FUNCTION pg_temp.axon_parent(body TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
    RETURN body::json -> 'terms' -> 'parent' ->> 'run_id';
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
UPDATE axon_runs SET parent = pg_temp.axon_parent(r.body)
FROM axon_records r
WHERE r.run = axon_runs.key AND r.n = 1 AND r.body LIKE '%"parent":%';
DROP FUNCTION pg_temp.axon_parent(TEXT);
