-- Keeps a dead letter, unless it is there.
--
-- KEYS  1 letters, 2 order
-- ARGV  1 id, 2 letter, 3 when it was set aside
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
end
return 0
