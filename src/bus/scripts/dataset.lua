-- The dataset at `place`, if it is valid: `hit`, epoch, the log's seq, the fence's seq, its
-- remaining ms, the bytes, the tags; where the bytes are more than `most`, `large` and their
-- number. Nothing if there is none, or one of another format. Nothing is read before its size is
-- known.
local TAGS_TEXT_MAX = TAGS_MAX * (6 * TAG_BYTES_MAX + 3) + 2

local function dataset_at(place, key, most)
  local body = typed('HSTRLEN', place, 'body') or 0
  if body == 0 or call('HSTRLEN', place, 'tags') > TAGS_TEXT_MAX then
    return nil
  end
  local format, epoch = call('HSTRLEN', place, 'format'), call('HSTRLEN', place, 'epoch')
  if math.max(format, epoch, call('HSTRLEN', place, 'seq')) > FIELD_BYTES_MAX then
    return nil
  end
  local dataset = call('HMGET', place, 'format', 'epoch', 'seq', 'tags')
  if dataset[1] ~= '1' or dataset[2] ~= log.epoch then
    return nil
  end
  local are_read, tags = pcall(cjson.decode, dataset[4] or '')
  local seq = number(dataset[3])
  if not are_read or type(tags) ~= 'table' or not are_tags(tags) then
    return nil
  end
  local left = call('PTTL', place)
  -- A dataset that does not expire was stored by no script of bfb.
  if left < 0 or not believes(seq, key, tags) then
    return nil
  end
  if body > most then
    return { 'large', text(body) }
  end
  local answer = { 'hit', log.epoch, text(log.seq), dataset[3], text(left), call('HGET', place, 'body') }
  for at = 1, #tags do
    table.insert(answer, tags[at])
  end
  return answer
end
