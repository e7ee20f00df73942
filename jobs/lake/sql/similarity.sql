-- The cosine of two users' latest vectors in a scenario: SELECT similarity('u000001', 'u000002', 'food')
CREATE OR REPLACE {temporary} FUNCTION similarity(one STRING, other STRING, scenario STRING)
RETURNS DOUBLE
COMMENT 'Cosine of the latest vectors of two users in a scenario; null if one of them has none.'
RETURN (
  SELECT max(vector_cosine_similarity(a.embedding, b.embedding))
  FROM {database}latest_embeddings AS a JOIN {database}latest_embeddings AS b ON a.scenario = b.scenario
  WHERE a.user_id = similarity.one AND b.user_id = similarity.other AND a.scenario = similarity.scenario
)
