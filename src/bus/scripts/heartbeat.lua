-- ARGV[3] the sidecar's name, [4] its lease in ms, [5] and [6] the epoch and seq that it applied, or
-- '' and '', [7] '1': it has known that epoch for a whole lease.
-- Answers `told`, epoch, seq, longest lease, settled.
local refusal = open(true)
if refusal then
  return refusal
end
local lease_ms = number(ARGV[4])
if #ARGV[3] > NAME_BYTES_MAX or not lease_ms or lease_ms > LEASE_MS_MAX then
  return redis.error_reply('ERR bfb: a name has at most 256 bytes, and a lease at most 300000 ms')
end
local here = ARGV[5] == log.epoch
local reported = here and number(ARGV[6]) or 0
if reported > log.seq then
  -- It applied entries that this log does not have: the log was damaged, or its published entries
  -- were forged.
  refusal = begin(life())
  if refusal then
    return refusal
  end
  here, reported = false, 0
end
if here and ARGV[7] == '1' then
  settle()
end
local field, leases = 'r:' .. ARGV[3], log.leases
local known = registered(field)
if known then
  local _, before, lease = registration(known)
  reported = math.max(reported, before)
  if lease ~= ARGV[4] then
    count(lease, -1)
    count(ARGV[4], 1)
  end
else
  count(ARGV[4], 1)
end
if #log.leases > LEASES_BYTES_MAX or not are_leases(log.leases) then
  return redis.error_reply('ERR bfb: the sidecars of the domain name too many different leases')
end
call('HSET', META, field, text(log.seq) .. ' ' .. text(reported) .. ' ' .. ARGV[4])
if log.leases ~= leases then
  call('HSET', META, 'leases', log.leases)
end
local most = longest()
return { 'told', log.epoch, text(log.seq), most, log.settled }
