-- The latest vector of each user in each scenario. Vectors that ended are left out.
CREATE OR REPLACE {temporary} VIEW latest_embeddings AS
SELECT user_id, scenario, as_of, embedding, model_version, instruction_hash, profile_hash, created_at
FROM (
  SELECT *, row_number() OVER (PARTITION BY user_id, scenario ORDER BY as_of DESC) AS newness
  FROM {database}user_embeddings
)
WHERE newness = 1 AND embedding IS NOT NULL
