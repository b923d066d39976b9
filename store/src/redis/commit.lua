-- Writes one commit of one run, or nothing. Decides nothing about runs; it is told what to write.
--
-- KEYS  1 record, 2 outbox, 3 exceptions, 4 live, 5 ended, 6 ended-at, 7 timers, 8 awaiting, 9 unpublished,
--       then the bitmaps of the first ARGV[8] handlers, then whatever the writes name
-- ARGV  1 the version expected (8 bytes; empty: no run), 2 the record, 3 the run as a member of lists,
--       4 when it ended (or empty), 5 when it is to be woken (or empty),
--       6 the first event to be appended (or empty), 7 the place of the history among KEYS,
--       8 how many bitmaps are passed, 9 what becomes of the outbox: '' nothing, '+' it has effects, '-' it may be empty,
--       10 the entry up to which all inputs go (or empty), 11 the place of the set of inputs among KEYS,
--       then the writes: command, place of the key among KEYS, number of values, values…
-- answer  a number of those below; or the names of inputs that go and were not named
--
-- Everything is checked before the first write, because nothing is rolled back. The first write is one that a server
-- without memory refuses; later ones of the same script are never refused for that.
local DONE, CONFLICT, GAP, HANDLERS = 0, 1, 2, 16

local old, new = redis.call('GETRANGE', KEYS[1], 0, 40), ARGV[2]
if string.sub(old, 1, 8) ~= ARGV[1] then
  return CONFLICT
end
if ARGV[6] ~= '' and redis.call('LLEN', KEYS[tonumber(ARGV[7])]) + 1 ~= tonumber(ARGV[6]) then
  return GAP
end
local handlers, width = 0, 0
if old ~= '' then
  handlers = string.byte(old, 13) * 256 + string.byte(old, 14)
  width = string.byte(old, 40) * 256 + string.byte(old, 41)
end
local moved = string.sub(old, 9, 14) ~= string.sub(new, 9, 14)
if moved and handlers > tonumber(ARGV[8]) then
  return HANDLERS + handlers -- the bitmaps of the entry that is left must be named
end

if ARGV[10] ~= '' then
  -- Some may have been stored ahead of a commit that never came.
  local inputs, named, unnamed = KEYS[tonumber(ARGV[11])], nil, {}
  for _, name in ipairs(redis.call('SMEMBERS', inputs)) do
    if (tonumber(string.match(name, '^%d+')) or 0) <= tonumber(ARGV[10]) then
      if not named then
        named = {}
        for _, key in ipairs(KEYS) do
          named[key] = true
        end
      end
      if not named[inputs .. ':' .. name] then
        table.insert(unnamed, name)
      end
    end
  end
  if #unnamed > 0 then
    return unnamed
  end
end

if width > string.byte(new, 40) * 256 + string.byte(new, 41) then
  new = string.sub(new, 1, 39) .. string.sub(old, 40, 41) .. string.sub(new, 42)
end
redis.call('SET', KEYS[1], new)

if moved and old ~= '' then
  redis.call('UNLINK', KEYS[3])
  for handler = 1, handlers do
    redis.call('UNLINK', KEYS[9 + handler])
  end
end

local run = string.sub(ARGV[3], 18)

-- A run that is made stands in no index yet.
local function index(key, score, member)
  if score ~= '' then
    redis.call('ZADD', key, score, member)
  elseif old ~= '' then
    redis.call('ZREM', key, member)
  end
end

-- Only those indexes are touched in which the run is to stand otherwise. The bits of byte 15: has ended, awaits a worker,
-- has a time when it ended, has a time when it is woken; then the times: made, ended, woken.
local function flag(record, bit)
  return record ~= '' and math.floor(string.byte(record, 15) / bit) % 2 == 1
end

local is_ended = flag(new, 1)
if old == '' or flag(old, 1) ~= is_ended or string.sub(old, 16, 31) ~= string.sub(new, 16, 31) then
  index(KEYS[4], is_ended and '' or 0, ARGV[3])
  index(KEYS[5], is_ended and 0 or '', ARGV[3])
  index(KEYS[6], is_ended and ARGV[4] or '', run)
end
if flag(old, 8) ~= flag(new, 8) or string.sub(old, 32, 39) ~= string.sub(new, 32, 39) then
  index(KEYS[7], ARGV[5], run)
end
if flag(old, 2) ~= flag(new, 2) then
  redis.call(flag(new, 2) and 'SADD' or 'SREM', KEYS[8], run)
end

-- SETRANGE beyond the end doubles what is allocated; a bitmap of 1,000,000 jobs should take little more than its bits.
local function patch(key, offset, bytes)
  local needed = offset + #bytes
  local size = needed > 1024 and redis.call('STRLEN', key) or 0
  if size > 0 and needed > size then
    local grown = math.max(needed, size + math.floor(size / 32))
    redis.call('SET', key, redis.call('GET', key) .. string.rep('\0', grown - size))
  end
  redis.call('SETRANGE', key, offset, bytes)
end

local at = 12
while at <= #ARGV do
  local command, key, values = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  if command == 'PATCH' then
    patch(key, tonumber(ARGV[at + 3]), ARGV[at + 4])
  else
    redis.call(command, key, unpack(ARGV, at + 3, at + 2 + values))
  end
  at = at + 3 + values
end

if ARGV[9] ~= '' then
  local is_empty = ARGV[9] == '-' and redis.call('EXISTS', KEYS[2]) == 0
  redis.call(is_empty and 'SREM' or 'SADD', KEYS[9], run)
end
return DONE
