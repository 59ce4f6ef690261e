-- KEYS[4] the claim on a place, [5] the place. ARGV[3] and [4] the flight's epoch and seq, [5] who asks, [6] time to live in
-- ms, [7] key. Answers the dataset if it is there by now, so that nobody collects what has just been kept; else `done`; or
-- `held` and by whom. A claim whose flight is outdated already binds nobody.
local refusal = open(false)
if refusal then
  return refusal
end
if ARGV[3] ~= log.epoch then
  return { 'other-life' }
end
local holder, epoch, seq = string.match(redis.call('GET', KEYS[4]) or '', '^(%S+) (%x+) (%d+)')
if holder ~= ARGV[5] then
  local there = dataset_at(KEYS[5], ARGV[7])
  if there then
    return there
  end
end
if holder and holder ~= ARGV[5] and epoch == log.epoch then
  seq = tonumber(seq)
  -- Nobody knows the tags of a dataset that is still in the air: any tag's stamp counts.
  if log.tag <= seq and believes(seq, ARGV[7], {}) then
    return { 'held', holder }
  end
end
redis.call('SET', KEYS[4], ARGV[5] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4], 'PX', ARGV[6])
return done(true)
