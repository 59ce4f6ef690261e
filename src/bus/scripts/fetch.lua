-- KEYS[4] where. ARGV[3] key. Answers `miss`; or `hit`, epoch, the log's seq, the fence's seq, the bytes, the tags.
-- A dataset of another format is a miss.
local refusal = open(false)
if refusal then
  return refusal
end
local dataset = redis.call('HMGET', KEYS[4], 'format', 'epoch', 'seq', 'tags', 'body')
if dataset[1] ~= '1' or dataset[2] ~= log.epoch then
  return { 'miss' }
end
local tags = cjson.decode(dataset[4])
if not believes(tonumber(dataset[3]), ARGV[3], tags) then
  return { 'miss' }
end
local answer = { 'hit', log.epoch, text(log.seq), dataset[3], dataset[5] }
for _, tag in ipairs(tags) do
  table.insert(answer, tag)
end
return answer
