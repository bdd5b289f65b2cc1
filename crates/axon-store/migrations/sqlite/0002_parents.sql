-- The run whose call a run answers, so that those below others need not be read to be passed over.
ALTER TABLE axon_runs ADD COLUMN parent TEXT;
CREATE INDEX axon_runs_top_level ON axon_runs (accepted_at, id) WHERE parent IS NULL;

-- It stands in the first record. What a damaged one says is told by a thorough check.
UPDATE axon_runs SET parent = (
    SELECT CASE WHEN json_valid(r.body) THEN json_extract(r.body, '$.terms.parent.run_id') END
    FROM axon_records r
    WHERE r.run = axon_runs.key AND r.n = 1 AND r.body LIKE '%"parent":%'
);
