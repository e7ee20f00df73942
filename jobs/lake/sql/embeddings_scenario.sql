-- The latest vectors of one scenario: embeddings_food, embeddings_universal, ...
CREATE OR REPLACE {temporary} VIEW embeddings_{scenario} AS
SELECT user_id, as_of, embedding, model_version
FROM {database}latest_embeddings
WHERE scenario = '{scenario}'
