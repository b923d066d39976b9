-- Replaces the marker, if it is still the one that is to be replaced.
--
-- KEYS    1 marker
-- ARGV    1 the one to be replaced (empty for none), 2 the new one
-- answer  1 when it is replaced, 0 when there is another one
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
