-- How many rows each run left out, one reason a row.
CREATE OR REPLACE {temporary} VIEW left_out AS
SELECT job, as_of, reason, rows_left_out
FROM {database}job_runs LATERAL VIEW explode(left_out) AS reason, rows_left_out
