-- KEYS[4] where. ARGV[3] key. Answers the dataset, or `miss`.
local refusal = open(false)
if refusal then
  return refusal
end
return dataset_at(KEYS[4], ARGV[3]) or { 'miss' }
