-- Removes effects that are published from the outbox of one run.
--
-- KEYS  1 outbox, 2 unpublished
-- ARGV  1 run, then the versions
if #ARGV > 1 then
  redis.call('HDEL', KEYS[1], unpack(ARGV, 2))
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SREM', KEYS[2], ARGV[1])
end
return 0
