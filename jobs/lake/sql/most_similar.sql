-- The k other users with the highest cosine to a user in a scenario: SELECT * FROM most_similar('u000001', 'food', 10)
CREATE OR REPLACE {temporary} FUNCTION most_similar(user STRING, scenario STRING, k INT)
RETURNS TABLE (user_id STRING, similarity DOUBLE, place INT)
COMMENT 'The k other users with the highest cosine to a user in a scenario, the most similar first.'
RETURN
SELECT user_id, similarity, place
FROM (
  SELECT user_id, similarity, row_number() OVER (ORDER BY similarity DESC, user_id) AS place
  FROM (
    SELECT other.user_id, vector_cosine_similarity(one.embedding, other.embedding) AS similarity
    FROM {database}latest_embeddings AS one JOIN {database}latest_embeddings AS other ON one.scenario = other.scenario
    WHERE one.user_id = most_similar.user AND one.scenario = most_similar.scenario
      AND other.user_id <> most_similar.user
  )
)
WHERE place <= most_similar.k
ORDER BY place
