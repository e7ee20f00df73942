-- The latest vectors as of a day: SELECT * FROM embeddings_at(DATE'2026-01-31')
CREATE OR REPLACE {temporary} FUNCTION embeddings_at(at DATE COMMENT 'events before this day, UTC')
RETURNS TABLE (user_id STRING, scenario STRING, as_of TIMESTAMP, embedding ARRAY<FLOAT>, model_version STRING)
COMMENT 'The latest vector of each user in each scenario as of a day; vectors that ended are left out.'
RETURN
SELECT user_id, scenario, as_of, embedding, model_version
FROM (
  SELECT *, row_number() OVER (PARTITION BY user_id, scenario ORDER BY as_of DESC) AS newness
  FROM {database}user_embeddings
  WHERE day <= embeddings_at.at
)
WHERE newness = 1 AND embedding IS NOT NULL
