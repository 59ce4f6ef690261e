-- KEYS[4] the place. ARGV[3] and [4] the fence's epoch and seq, [5] time to live in ms, [6] key,
-- [7] the bytes, [8] its age in ms, [9…] tags.
-- Answers `done` and whether it was stored: not if it was invalidated since its fence, nor if the
-- dataset in place is valid and was collected later, nor if it is larger than a dataset may be.
local refusal = open(false)
if refusal then
  return refusal
end
local tags = tags_from(9)
if not tags or #ARGV[7] > BODY_BYTES_MAX then
  return done(false)
end
if ARGV[3] ~= log.epoch or not believes(number(ARGV[4]), ARGV[6], tags) then
  return done(false)
end

-- The age of the dataset at a place, in ms: its age when it was stored, and the time since. Nil
-- where that is not known.
local function age_at(place)
  local bytes = typed('HSTRLEN', place, 'age')
  if not bytes or math.max(bytes, call('HSTRLEN', place, 'ttl')) > FIELD_BYTES_MAX then
    return nil
  end
  local there = call('HMGET', place, 'age', 'ttl')
  local age, ttl, left = number(there[1]), number(there[2]), call('PTTL', place)
  if age and ttl and left >= 0 and left <= ttl then
    return age + ttl - left
  end
end

local age, age_there = number(ARGV[8]), age_at(KEYS[4])
if age and age_there and age_there < age and dataset_at(KEYS[4], ARGV[6], 0) then
  return done(false)
end
call('UNLINK', KEYS[4])
call('HSET', KEYS[4], 'format', '1', 'epoch', ARGV[3], 'seq', ARGV[4], 'tags', cjson.encode(tags), 'body', ARGV[7],
  'age', ARGV[8], 'ttl', ARGV[5])
call('PEXPIRE', KEYS[4], ARGV[5])
return done(true)
