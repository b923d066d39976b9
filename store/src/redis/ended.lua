-- Finds runs of one shard that ended before a time and have nothing in their outbox, oldest first.
--
-- KEYS    1 ended-at, 2 unpublished
-- ARGV    1 the time, 2 the most runs
-- answer  run, when it ended, run, when it ended…
local most, offset, found = tonumber(ARGV[2]), 0, {}
while #found < 2 * most do
  local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'WITHSCORES', 'LIMIT', offset, 100)
  if #page == 0 then
    break
  end
  for at = 1, #page, 2 do
    if #found < 2 * most and redis.call('SISMEMBER', KEYS[2], page[at]) == 0 then
      found[#found + 1] = page[at]
      found[#found + 1] = page[at + 1]
    end
  end
  offset = offset + 100
end
return found
