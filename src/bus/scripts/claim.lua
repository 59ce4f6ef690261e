-- KEYS[4] the claim on a place, [5] the place. ARGV[3] and [4] the flight's epoch and seq, [5] the
-- claimant, [6] time to live in ms, [7] key, [8] the most bytes of a dataset to answer with, or ''
-- to claim even where there is one.
-- Answers the dataset, or its size, if it is stored by now, so that it is not collected again; else
-- `done`; or `held` and the holder. A claim is ignored if its flight is outdated already, if it is
-- longer than any that a sidecar writes, if it does not expire, or if it expires much later than
-- the caller's own would.
local CLAIM_BYTES_MAX, CLAIM_MS_MAX = 512, 10 * tonumber(ARGV[6])
local refusal = open(false)
if refusal then
  return refusal
end
if ARGV[3] ~= log.epoch then
  return { 'other-life' }
end
local ends_in = call('PTTL', KEYS[4])
local is_claim = ends_in >= 0 and ends_in <= CLAIM_MS_MAX and (typed('STRLEN', KEYS[4]) or math.huge) <= CLAIM_BYTES_MAX
local claim = is_claim and call('GET', KEYS[4])
local holder, epoch, seq = string.match(claim or '', '^(%S+) (%x+) (%d+)')
if holder ~= ARGV[5] and ARGV[8] ~= '' then
  local there = dataset_at(KEYS[5], ARGV[7], tonumber(ARGV[8]))
  if there then
    return there
  end
end
if holder and holder ~= ARGV[5] and epoch == log.epoch then
  seq = number(seq)
  -- The tags of a dataset are unknown while it is being collected: any tag's stamp counts.
  if believes(seq, ARGV[7], {}) and log.tag <= seq then
    return { 'held', holder }
  end
end
call('SET', KEYS[4], ARGV[5] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4], 'PX', ARGV[6])
return done(true)
