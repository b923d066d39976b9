-- Reads one run.
--
-- KEYS    1 record, 2 outbox, 3 exceptions, then the bitmaps of the first handlers
-- answer  nothing; or record, outbox, exceptions, bitmaps…; or the number of handlers, when more bitmaps must be named
local record = redis.call('GET', KEYS[1])
if not record then
  return false
end
local handlers = (string.byte(record, 13) or 0) * 256 + (string.byte(record, 14) or 0)
if handlers > #KEYS - 3 then
  return handlers
end
local answer = { record, redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3]) }
for handler = 1, handlers do
  answer[3 + handler] = redis.call('GET', KEYS[3 + handler]) or ''
end
return answer
