-- Stores a definition, unless it is there, and makes it the latest of its name.
--
-- KEYS    1 definitions, 2 latest, 3 revisions
-- ARGV    1 name, 2 revision, 3 definition
-- answer  1 when it was not there
local is_new = redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('LREM', KEYS[3], 0, ARGV[2])
redis.call('LPUSH', KEYS[3], ARGV[2])
return is_new
