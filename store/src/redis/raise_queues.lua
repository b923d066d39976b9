-- Raises the highest number of coordinator queues there ever were.
--
-- KEYS    1 queues
-- ARGV    1 how many there are now
-- answer  the highest number
local highest = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) > highest then
  highest = tonumber(ARGV[1])
  redis.call('SET', KEYS[1], ARGV[1])
end
return highest
