-- Removes all that is known of one run, unless it has changed since its keys were named.
--
-- KEYS    1 record, 2 inputs, 3 live, 4 ended, 5 ended-at, 6 timers, 7 awaiting, 8 unpublished, then every other key
-- ARGV    1 the header of the record (or empty), 2 how many inputs there are, 3 the run as a member of lists, 4 the run
-- answer  1 when it is removed, 0 when it has changed
if redis.call('GETRANGE', KEYS[1], 0, 40) ~= ARGV[1] or redis.call('SCARD', KEYS[2]) ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('ZREM', KEYS[4], ARGV[3])
redis.call('ZREM', KEYS[5], ARGV[4])
redis.call('ZREM', KEYS[6], ARGV[4])
redis.call('SREM', KEYS[7], ARGV[4])
redis.call('SREM', KEYS[8], ARGV[4])
redis.call('UNLINK', KEYS[1], KEYS[2])
for at = 9, #KEYS do
  redis.call('UNLINK', KEYS[at])
end
return 1
