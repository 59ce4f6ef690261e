-- ARGV[3] and [4] the epoch and seq after which to read, [5] the most entries to answer with.
-- Answers `log`, epoch, then seq and scopes of each entry; or `too-old`, epoch, seq.
local refusal = open(false)
if refusal then
  return refusal
end
if ARGV[3] ~= log.epoch then
  return { 'other-life' }
end
local after = tonumber(ARGV[4])
local first = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
local next = first and tonumber(string.match(first[1], '^%d+')) or math.huge
if after < log.seq and next > after + 1 then
  return { 'too-old', log.epoch, text(log.seq) }
end
local answer = { 'log', log.epoch }
for _, entry in ipairs(redis.call('XRANGE', LOG, text(after + 1), '+', 'COUNT', ARGV[5])) do
  table.insert(answer, string.match(entry[1], '^%d+'))
  table.insert(answer, entry[2][2])
end
return answer
