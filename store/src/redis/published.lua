-- Removes effects that are published from the outboxes of some runs of one shard.
--
-- KEYS  1 unpublished, then the outboxes
-- ARGV  for each outbox: its run, how many versions, the versions
local at = 1
for n = 2, #KEYS do
  local run, versions = ARGV[at], tonumber(ARGV[at + 1])
  if versions > 0 then
    redis.call('HDEL', KEYS[n], unpack(ARGV, at + 2, at + 1 + versions))
  end
  if redis.call('EXISTS', KEYS[n]) == 0 then
    redis.call('SREM', KEYS[1], run)
  end
  at = at + 2 + versions
end
return 0
