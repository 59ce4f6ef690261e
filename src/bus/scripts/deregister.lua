-- ARGV[3] the name to remove. Answers `done` and whether it was there.
local refusal = open(false)
if refusal then
  return refusal
end
local field = 'r:' .. ARGV[3]
local known = registered(field)
if not known then
  return done(false)
end
local _, _, lease = registration(known)
count(lease, -1)
call('HDEL', META, field)
call('HSET', META, 'leases', log.leases)
return done(true)
