-- The registry: in the meta key, a field `r:NAME` = `REPLIED REPORTED LEASE_MS` for each sidecar
-- (the seq in its last reply, the seq that it reported, its lease), and in `leases` how many have
-- which lease (`MS=COUNT …`), so that a heartbeat costs the same in a fleet of any size.
local function registration(value)
  local told, reported, lease = string.match(value, '^(%d+) (%d+) (%d+)')
  return number(told) or 0, number(reported) or 0, lease
end

-- The registration in a field; one that is longer than any that a script writes counts as one
-- without a reply.
local function registered(field)
  if call('HSTRLEN', META, field) > FIELD_BYTES_MAX then
    return ''
  end
  return call('HGET', META, field)
end

-- No sidecar can be configured with a longer lease: a longer one was written by another program.
local LEASE_MS_MAX = 300000

-- Counts one registration more, or less, under a lease.
local function count(lease, by)
  local others, found = {}, 0
  for ms, number in string.gmatch(log.leases, '(%d+)=(%d+)') do
    if ms == lease then
      found = tonumber(number)
    else
      table.insert(others, ms .. '=' .. number)
    end
  end
  if found + by > 0 then
    table.insert(others, lease .. '=' .. text(found + by))
  end
  log.leases = table.concat(others, ' ')
end

-- The longest lease registered in milliseconds, and the number of sidecars.
local function longest()
  local most, sidecars = 0, 0
  for ms, number in string.gmatch(log.leases, '(%d+)=(%d+)') do
    if tonumber(ms) <= LEASE_MS_MAX then
      most = math.max(most, tonumber(ms))
      sidecars = sidecars + tonumber(number)
    end
  end
  return text(most), text(sidecars)
end

local function settle()
  if log.settled ~= '1' then
    log.settled = '1'
    call('HSET', META, 'settled', '1')
  end
end
