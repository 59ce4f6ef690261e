-- ARGV[3] and [4] the epoch and seq after which to read, [5] the most entries to answer with.
-- Answers `log`, epoch, then seq and scopes of each entry; or `too-old`, epoch, seq. The answer
-- ends once it is long, after one entry at least. An entry that is longer than any that a script
-- writes is answered without its scopes, which means all; it counts with the bytes that were read
-- of it, so it is the last one. Entries are read in steps that grow, since the size of a step is
-- not known before.
local PAGE_BYTES_MAX, ENTRY_BYTES_MAX, STEP_MAX = 524288, 524288, 16
local refusal = open(false)
if refusal then
  return refusal
end
if ARGV[3] ~= log.epoch then
  return { 'other-life' }
end
local after = tonumber(ARGV[4])
local answer, bytes, left, step = { 'log', log.epoch }, 0, tonumber(ARGV[5]), 1
while left > 0 and bytes < PAGE_BYTES_MAX do
  local entries = call('XRANGE', LOG, text(after + 1), '+', 'COUNT', math.min(left, step))
  local next = entries[1] and tonumber(string.match(entries[1][1], '^%d+')) or math.huge
  if after < log.seq and next > after + 1 then
    -- The stream does not go on from here: the missing entries were trimmed, or deleted.
    if #answer == 2 then
      return { 'too-old', log.epoch, text(log.seq) }
    end
    break
  end
  for _, entry in ipairs(entries) do
    local seq, scopes = string.match(entry[1], '^%d+'), entry[2][2] or ''
    if bytes < PAGE_BYTES_MAX then
      table.insert(answer, seq)
      table.insert(answer, #scopes <= ENTRY_BYTES_MAX and scopes or '')
      bytes, after, left = bytes + #scopes, tonumber(seq), left - 1
    end
  end
  if #entries < step then
    break
  end
  step = math.min(2 * step, STEP_MAX)
end
return answer
