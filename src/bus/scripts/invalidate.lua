-- Invalidates. Any program may call it, with one EVAL:
--
--   EVAL SCRIPT 3 bfb:{default/customer}:meta bfb:{default/customer}:log bfb:{default/customer}:stamps
--     1 0f8a…32 hex digits…c3 ''  key 42  tag gold
--
-- ARGV[3] '', or `EPOCH:SEQ`: does nothing if everything named is stamped above that already (for
-- hints).
-- ARGV[4…] pairs: `key` and a key, `tag` and a tag, or `all` and ''. An unknown kind means all.
-- At most 1000 pairs, whose names have at most 65536 bytes together: more are sent in several calls.
-- Answers `issued`, epoch, seq, the longest lease registered in ms, '1' if the epoch is settled, the
-- sidecars registered.
local refusal = open(true)
if refusal then
  return refusal
end
if #ARGV < 5 or #ARGV % 2 == 0 then
  return redis.error_reply('ERR bfb: nothing to invalidate, or a kind without its name')
end

local SCOPES_MAX, SCOPES_BYTES_MAX = 1000, 65536
local bytes = 0
for at = 4, #ARGV, 2 do
  bytes = bytes + #ARGV[at] + #ARGV[at + 1]
end
if #ARGV - 3 > 2 * SCOPES_MAX or bytes > SCOPES_BYTES_MAX then
  return redis.error_reply('ERR bfb: more than 1000 keys and tags, or more than 65536 bytes of them: send several calls')
end

local function issued()
  local most, sidecars = longest()
  return { 'issued', log.epoch, text(log.seq), most, log.settled, sidecars }
end

local function member(kind, name)
  return (kind == 'key' and 'k' .. name) or (kind == 'tag' and 't' .. name) or nil
end

-- Whether everything named was invalidated after `seq`. The floor is no stamp: it may stand for the
-- stamps of other names.
local function all_newer_than(seq)
  for at = 4, #ARGV, 2 do
    local named = member(ARGV[at], ARGV[at + 1])
    local stamp = tonumber(named and call('ZSCORE', STAMPS, named) or '0')
    if math.max(stamp, log.all) <= seq then
      return false
    end
  end
  return true
end

local epoch, above = string.match(ARGV[3], '^(%x+):(%d+)$')
if epoch == log.epoch and all_newer_than(tonumber(above)) then
  return issued()
end

local function stamp(kind, name)
  local named = member(kind, name)
  if not named then
    call('UNLINK', STAMPS)
    log.all, log.floor, log.tag = log.seq, log.seq, log.seq
    return
  end
  if kind == 'tag' then
    log.tag = log.seq
  end
  call('ZADD', STAMPS, text(log.seq), named)
  if call('ZCARD', STAMPS) > STAMPS_MAX then
    log.floor = tonumber(call('ZPOPMIN', STAMPS)[2])
  end
end

local scopes = {}
for at = 4, #ARGV, 2 do
  table.insert(scopes, { ARGV[at], ARGV[at + 1] })
end
scopes = cjson.encode(scopes)

-- The next entry of the log, before anything else is written.
local function append(run)
  log.seq = log.seq + 1
  return run('XADD', LOG, 'MAXLEN', ENTRIES_MAX, text(log.seq) .. '-0', 'scopes', scopes)
end

local refused = error_of(append(redis.pcall))
local is_damaged = string.find(refused or '', 'equal or smaller', 1, true)
  or string.find(refused or '', 'last possible ID', 1, true)
if refused and not is_damaged then
  -- Once more, for the error that the caller understands.
  log.seq = log.seq - 1
  append(call)
elseif refused then
  -- An entry that no script of bfb wrote was appended to the log: it cannot go on.
  refusal = begin(life())
  if refusal then
    return refusal
  end
  append(call)
end
call('HSET', META, 'seq', text(log.seq))
for at = 4, #ARGV, 2 do
  stamp(ARGV[at], ARGV[at + 1])
end
call('HSET', META, 'all', text(log.all), 'tag', text(log.tag), 'floor', text(log.floor),
  'stamps', text(call('ZCARD', STAMPS)))

-- `bfb:{…}:news` carries
-- {"epoch": …, "entries": [{"seq": …, "scopes": [["key", "42"], …]}, …]}.
local news = '{"epoch":"' .. log.epoch .. '","entries":[{"seq":' .. text(log.seq) .. ',"scopes":' .. scopes .. '}]}'
local server = call('INFO', 'server')
local major = tonumber(string.match(server, 'redis_version:(%d+)'))
-- `redis_mode:cluster`; Valkey has `server_mode:cluster`, and as its version that of the Redis whose
-- commands it has.
local sharded = string.find(server, '_mode:cluster', 1, true) and major >= 7
call(sharded and 'SPUBLISH' or 'PUBLISH', string.sub(META, 1, -5) .. 'news', news)
return issued()
