-- KEYS[4] the claim on a place. ARGV[3] who held it. Answers `done` and whether it did.
local refusal = open(false)
if refusal then
  return refusal
end
local claim = (typed('STRLEN', KEYS[4]) or math.huge) <= 512 and call('GET', KEYS[4])
local holder = string.match(claim or '', '^%S+')
if holder ~= ARGV[3] then
  return done(false)
end
call('DEL', KEYS[4])
return done(true)
