-- The dataset at `place`, if it is to be believed: `hit`, epoch, the log's seq, the fence's seq, how many ms it has left,
-- the bytes, the tags. Nothing if there is none; one of another format is none.
local function dataset_at(place, key)
  local dataset = redis.call('HMGET', place, 'format', 'epoch', 'seq', 'tags', 'body')
  if dataset[1] ~= '1' or dataset[2] ~= log.epoch then
    return nil
  end
  local tags = cjson.decode(dataset[4])
  if not believes(tonumber(dataset[3]), key, tags) then
    return nil
  end
  local left = math.max(redis.call('PTTL', place), 0)
  local answer = { 'hit', log.epoch, text(log.seq), dataset[3], text(left), dataset[5] }
  for _, tag in ipairs(tags) do
    table.insert(answer, tag)
  end
  return answer
end
