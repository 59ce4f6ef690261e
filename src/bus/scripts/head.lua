-- The part that every script of bfb begins with.
--
-- KEYS[1] bfb:{NAMESPACE/DOMAIN}:meta    a hash: the log's epoch, life, seq, settled mark, registry
-- KEYS[2] bfb:{NAMESPACE/DOMAIN}:log     its entries, as a capped stream; an entry's id is its seq
-- KEYS[3] bfb:{NAMESPACE/DOMAIN}:stamps  a sorted set: the last seq that invalidated a key (k…) or
--                                        a tag (t…)
-- ARGV[1] the protocol that the caller speaks
-- ARGV[2] 32 random hex digits: the name of the epoch, if this call has to begin one
--
-- Every answer is a list of texts; the first one names its kind. `newer`: the log speaks a newer
-- protocol (its number follows). `other-life`: the log is of another life of the server. In both
-- cases nothing was done.
local META, LOG, STAMPS = KEYS[1], KEYS[2], KEYS[3]
local ENTRIES_MAX, STAMPS_MAX = 10000, 100000
-- The bounds of a call's names, of a log, and of a dataset. Nothing larger in Redis is read.
local TAGS_MAX, TAG_BYTES_MAX, BODY_BYTES_MAX = 64, 512, 16777280
local SIDECARS_MAX, NAME_BYTES_MAX, LEASES_MAX, PROTOCOL_MAX = 20000, 256, 64, 4294967295
local FIELDS = { 'protocol', 'life', 'epoch', 'seq', 'settled', 'leases', 'all', 'tag', 'floor', 'stamps' }
local FIELD_BYTES_MAX, LEASES_BYTES_MAX = 128, 4096
local log

local function text(number)
  return string.format('%.0f', number)
end

-- The number in `value`, small enough to be exact in a double; nil for any other text.
local function number(value)
  return value and #value <= 15 and string.find(value, '^%d+$') and tonumber(value) or nil
end

local function error_of(answer)
  return type(answer) == 'table' and answer.err or nil
end

-- Runs a command. The error names a command that the connection's user may not run: most servers do
-- not say which it was.
local function call(command, ...)
  local answer = redis.pcall(command, ...)
  local refusal = error_of(answer)
  if not refusal then
    return answer
  end
  for _, sign in ipairs({ "executing the script can't", 'has no permissions', 'ACL failure', 'NOPERM' }) do
    if string.find(refusal, sign, 1, true) then
      local on = string.find(refusal, 'channel') and 'channels' or string.find(refusal, ' key') and 'keys' or 'command'
      error('bfb: no permission for ' .. on .. ' ' .. string.lower(command))
    end
  end
  return redis.call(command, ...)
end

-- The same for a command on a key of the log; nil where the key is of another type.
local function typed(...)
  local answer = redis.pcall(...)
  local refusal = error_of(answer)
  if not refusal then
    return answer
  end
  return not string.find(refusal, 'WRONGTYPE', 1, true) and call(...) or nil
end

-- The life of a server: a restarted one has another run id, a promoted one another replication id.
local function life()
  local server, replication = call('INFO', 'server'), call('INFO', 'replication')
  return string.match(server, 'run_id:(%x+)') .. '/' .. string.match(replication, 'master_replid:(%x+)')
end

-- Whether the meta key is as a script of bfb leaves it. A larger one is not read: it counts as no
-- log, and a call that may begin an epoch begins one.
local function is_meta()
  if (typed('HLEN', META) or math.huge) > SIDECARS_MAX + 2 * #FIELDS then
    return false
  end
  for at = 1, #FIELDS do
    local most = FIELDS[at] == 'leases' and LEASES_BYTES_MAX or FIELD_BYTES_MAX
    if call('HSTRLEN', META, FIELDS[at]) > most then
      return false
    end
  end
  return true
end

-- Stamps that were evicted or deleted beside the meta key would go unnoticed: the meta key holds
-- their number. A log whose stream reaches beyond its seq could not be appended to.
local function is_of(life, meta, seq)
  local stamps = number(meta[10])
  if meta[2] ~= life or not stamps or typed('ZCARD', STAMPS) ~= stamps then
    return false
  end
  local beyond = typed('XRANGE', LOG, text(seq + 1), '+', 'COUNT', 1)
  return beyond and #beyond == 0
end

local function begin(life)
  if #ARGV[2] ~= 32 or string.find(ARGV[2], '[^0-9a-f]') then
    return redis.error_reply('ERR bfb: ARGV[2] must be 32 hex digits in lower case')
  end
  call('UNLINK', META, LOG, STAMPS)
  call('HSET', META, 'protocol', ARGV[1], 'life', life, 'epoch', ARGV[2], 'seq', '0', 'settled', '0',
    'leases', '', 'all', '0', 'tag', '0', 'floor', '0', 'stamps', '0')
  log = { epoch = ARGV[2], seq = 0, settled = '0', leases = '', all = 0, tag = 0, floor = 0 }
end

-- Whether the numbers of sidecars and leases are within a fleet's bounds. A lease that no sidecar
-- can have is ignored where leases are compared.
local function are_leases(text)
  local kinds, sidecars = 0, 0
  for _, count in string.gmatch(text, '(%d+)=(%d+)') do
    kinds, sidecars = kinds + 1, sidecars + (number(count) or math.huge)
  end
  return kinds <= LEASES_MAX and sidecars <= 2 * SIDECARS_MAX
end

-- Fills `log`, or returns the answer to give instead.
local function open(begins)
  local meta = is_meta() and call('HMGET', META, unpack(FIELDS)) or {}
  local protocol = number(meta[1])
  if protocol and protocol > tonumber(ARGV[1]) and protocol <= PROTOCOL_MAX then
    return { 'newer', meta[1] }
  end
  local life = life()
  local seq, all, tag, floor = number(meta[4]), number(meta[7]), number(meta[8]), number(meta[9])
  local is_whole = protocol and meta[3] and seq and meta[5] and meta[6] and all and tag and floor
  is_whole = is_whole and math.max(all, tag, floor) <= seq and protocol <= PROTOCOL_MAX
  is_whole = is_whole and #meta[3] == 32 and not string.find(meta[3], '[^0-9a-f]') and are_leases(meta[6])
  if not is_whole or not is_of(life, meta, seq) then
    if begins then
      return begin(life)
    end
    return { 'other-life' }
  end
  log = { epoch = meta[3], seq = seq, settled = meta[5], leases = meta[6], all = all, tag = tag, floor = floor }
end

-- Whether the tags are within a dataset's bounds, in number and length.
local function are_tags(tags)
  if #tags > TAGS_MAX then
    return false
  end
  for at = 1, #tags do
    if type(tags[at]) ~= 'string' or #tags[at] > TAG_BYTES_MAX then
      return false
    end
  end
  return true
end

-- The arguments from one index on, as tags; nil if they cannot be a dataset's.
local function tags_from(first)
  if #ARGV - first + 1 > TAGS_MAX then
    return nil
  end
  local tags = {}
  for at = first, #ARGV do
    table.insert(tags, ARGV[at])
  end
  return are_tags(tags) and tags or nil
end

-- Whether nothing has invalidated the key or a tag since `seq`. A seq beyond the log's end is
-- invalid.
local function believes(seq, key, tags)
  if not seq or seq > log.seq or seq < log.floor then
    return false
  end
  local stamp = call('ZSCORE', STAMPS, 'k' .. key)
  if stamp and tonumber(stamp) > seq then
    return false
  end
  for _, tag in ipairs(tags) do
    stamp = call('ZSCORE', STAMPS, 't' .. tag)
    if stamp and tonumber(stamp) > seq then
      return false
    end
  end
  return true
end

local function done(so)
  return { 'done', so and '1' or '0' }
end
