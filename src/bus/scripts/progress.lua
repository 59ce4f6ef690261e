-- ARGV[3] and [4] an invalidation's epoch and seq, [5] '1': the whole lease has passed, so sidecars
-- whose last reply had less than its seq are removed, [6] '1': marks the epoch as settled, [7] a
-- sidecar that had not reported, or '': while it has not, no other is looked at, for a registry may
-- be large.
-- Answers `progress`, settled, and the sidecars that have not reported.
local refusal = open(false)
if refusal then
  return refusal
end
if ARGV[3] ~= log.epoch then
  return { 'other-life' }
end
if ARGV[6] == '1' then
  settle()
end
local answer, seq, leases = { 'progress', log.settled }, tonumber(ARGV[4]), log.leases
local laggard = ARGV[5] ~= '1' and ARGV[7] ~= '' and registered('r:' .. ARGV[7])
if laggard then
  local _, reported = registration(laggard)
  if reported < seq then
    table.insert(answer, ARGV[7])
    return answer
  end
end
-- `open` has asked how many fields there are.
local meta = call('HGETALL', META)
for at = 1, #meta, 2 do
  if string.sub(meta[at], 1, 2) == 'r:' then
    -- Of a large registry this is most of the work: it reads no more than it needs.
    if #meta[at] > NAME_BYTES_MAX + 2 then
      -- No sidecar has such a name.
      call('HDEL', META, meta[at])
    elseif (number(string.match(meta[at + 1], '^%d+ (%d+)')) or 0) < seq then
      table.insert(answer, string.sub(meta[at], 3))
    end
    if ARGV[5] == '1' then
      local told, _, lease = registration(meta[at + 1])
      if told < seq then
        count(lease, -1)
        call('HDEL', META, meta[at])
      end
    end
  end
end
if log.leases ~= leases then
  call('HSET', META, 'leases', log.leases)
end
return answer
