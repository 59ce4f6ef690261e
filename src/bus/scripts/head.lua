-- The part that every script of bfb begins with.
--
-- KEYS[1] bfb:{NAMESPACE/DOMAIN}:meta    the log's epoch, life, seq, settled mark and registry, as one hash
-- KEYS[2] bfb:{NAMESPACE/DOMAIN}:log     its entries, as a capped stream; an entry's id is its seq
-- KEYS[3] bfb:{NAMESPACE/DOMAIN}:stamps  which seq last invalidated a key (k…) or a tag (t…), as a sorted set
-- ARGV[1] the protocol that the caller speaks
-- ARGV[2] 32 random hex digits: the name of the epoch, if this call has to begin one
--
-- Every answer is a list of texts; the first says what it is. `newer`: the log speaks a newer protocol (its number
-- follows). `other-life`: the log is of another life of the server. In both cases nothing was done.
local META, LOG, STAMPS = KEYS[1], KEYS[2], KEYS[3]
local ENTRIES_MAX, STAMPS_MAX = 10000, 100000
local log

local function text(number)
  return string.format('%.0f', number)
end

-- One life of one server: a restarted one has another run id, a promoted one too.
local function life()
  local server, replication = redis.call('INFO', 'server'), redis.call('INFO', 'replication')
  return string.match(server, 'run_id:(%x+)') .. '/' .. string.match(replication, 'master_replid:(%x+)')
end

-- Stamps that were evicted or deleted beside the meta key would be missed by nobody: their number is in the meta key.
local function is_of(life, meta)
  return meta[2] == life and redis.call('ZCARD', STAMPS) == tonumber(meta[10])
end

local function begin(life)
  if #ARGV[2] ~= 32 or string.find(ARGV[2], '[^0-9a-f]') then
    return redis.error_reply('ERR bfb: ARGV[2] must be 32 hex digits in lower case')
  end
  redis.call('DEL', META, LOG, STAMPS)
  redis.call('HSET', META, 'protocol', ARGV[1], 'life', life, 'epoch', ARGV[2], 'seq', '0', 'settled', '0',
    'leases', '', 'all', '0', 'tag', '0', 'floor', '0', 'stamps', '0')
  log = { epoch = ARGV[2], seq = 0, settled = '0', leases = '', all = 0, tag = 0, floor = 0 }
end

-- Fills `log`, or returns the answer to give instead.
local function open(begins)
  local meta = redis.call('HMGET', META, 'protocol', 'life', 'epoch', 'seq', 'settled', 'leases', 'all', 'tag', 'floor',
    'stamps')
  if meta[1] and tonumber(meta[1]) > tonumber(ARGV[1]) then
    return { 'newer', meta[1] }
  end
  local life = life()
  if not is_of(life, meta) then
    if begins then
      return begin(life)
    end
    return { 'other-life' }
  end
  log = { epoch = meta[3], seq = tonumber(meta[4]), settled = meta[5], leases = meta[6], all = tonumber(meta[7]),
    tag = tonumber(meta[8]), floor = tonumber(meta[9]) }
end

-- Whether nothing has invalidated the key or a tag since `seq`.
local function believes(seq, key, tags)
  if seq < log.floor then
    return false
  end
  local stamp = redis.call('ZSCORE', STAMPS, 'k' .. key)
  if stamp and tonumber(stamp) > seq then
    return false
  end
  for _, tag in ipairs(tags) do
    stamp = redis.call('ZSCORE', STAMPS, 't' .. tag)
    if stamp and tonumber(stamp) > seq then
      return false
    end
  end
  return true
end

local function done(so)
  return { 'done', so and '1' or '0' }
end
