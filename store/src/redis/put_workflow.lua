-- Stores a definition, unless it is there, and makes it the latest of its name; or leaves the latest that there is.
--
-- KEYS    1 definitions, 2 latest, 3 revisions
-- ARGV    1 name, 2 revision, 3 definition, 4 1 when the latest of the name stays, if there is one
-- answer  1 when it was not there
if ARGV[4] == '1' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  if redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3]) == 0 then
    return 0
  end
  redis.call('LREM', KEYS[3], 0, ARGV[2])
  redis.call('RPUSH', KEYS[3], ARGV[2])
  return 1
end
local is_new = redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('LREM', KEYS[3], 0, ARGV[2])
redis.call('LPUSH', KEYS[3], ARGV[2])
return is_new
