-- KEYS[4] the claim on a place. ARGV[3] its holder. Answers `done` and whether it was released.
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
