-- Reads all pages of outputs of a handler, unless the outputs are too large together.
--
-- KEYS    1 outputs
-- ARGV    1 the most bytes
-- answer  the pages; or a size that is too large
local most, size, pages = tonumber(ARGV[1]), 0, {}
for first = 0, redis.call('LLEN', KEYS[1]) - 1, 64 do
  for _, page in ipairs(redis.call('LRANGE', KEYS[1], first, first + 63)) do
    size = size + tonumber(string.match(page, '^%d+'))
    if size > most then
      return size
    end
    pages[#pages + 1] = page
  end
end
return pages
