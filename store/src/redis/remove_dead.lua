-- Removes a dead letter.
--
-- KEYS    1 letters, 2 order
-- ARGV    1 id
-- answer  1 when it was there
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])
