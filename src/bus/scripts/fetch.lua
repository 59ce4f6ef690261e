-- KEYS[4] the place. ARGV[3] key, [4] the most bytes to answer with. Answers the dataset, or its
-- size, or `miss`.
local refusal = open(false)
if refusal then
  return refusal
end
return dataset_at(KEYS[4], ARGV[3], tonumber(ARGV[4])) or { 'miss' }
