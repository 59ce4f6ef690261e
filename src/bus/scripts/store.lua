-- KEYS[4] where. ARGV[3] and [4] the fence's epoch and seq, [5] time to live in ms, [6] key, [7] the bytes, [8…] tags.
-- Answers `done` and whether it was kept: not if it was invalidated since its fence, nor if it is more than a dataset may be.
local refusal = open(false)
if refusal then
  return refusal
end
local tags = tags_from(8)
if not tags or #ARGV[7] > BODY_BYTES_MAX then
  return done(false)
end
if ARGV[3] ~= log.epoch or not believes(tonumber(ARGV[4]), ARGV[6], tags) then
  return done(false)
end
redis.call('UNLINK', KEYS[4])
redis.call('HSET', KEYS[4], 'format', '1', 'epoch', ARGV[3], 'seq', ARGV[4], 'tags', cjson.encode(tags), 'body', ARGV[7])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
return done(true)
