-- Operations by name, and what makes them. Redis makes every function of the script anew for every batch, which takes
-- longer than many a batch: so each is made when a batch first asks for it, and what is seldom asked for all at once.
local OPS, MAKE, SELDOM = {}, {}, {}

local function make_seldom()
  for _, make in ipairs(SELDOM) do
    make()
  end
end

local function operation(kind)
  if not OPS[kind] then
    (MAKE[kind] or make_seldom)()
  end
  return OPS[kind]
end

-- What this batch has read of topics, groups and the mode; written back once, at its end.

local header = cmsgpack.unpack(ARGV[1])
local CLIENT, SEQ, NOW = header[1], header[2], header[4]
local SETTINGS = {
  high_mark = header[5][1], low_mark = header[5][2], dwell_s = header[5][3], dedup_ids_max = header[5][4],
  groups_max = header[5][5], consumers_max = header[5][6], dead_after_s = header[5][7],
}
local BLOBS_AT = 3       -- ARGV index of the first blob
local ops = cmsgpack.unpack(ARGV[2])
local results = {} -- in the order of the operations; a publication of many messages has many
local topics, bells, blobs, bytes = {}, {m = {}, r = {}, s = {}}, {}, 0
local mode, number

local function group_key(kind, group)
  local keys = group.keys
  if not keys then
    keys = {}
    group.keys = keys
  end
  local key = keys[kind]
  if not key then
    key = P .. kind .. ':' .. group.topic.name .. ':' .. group.name
    keys[kind] = key
  end
  return key
end

local function read_group(topic, name)
  local stored = cmsgpack.unpack(call('GET', P .. 'g:' .. topic.name .. ':' .. name))
  stored.topic, stored.settled, stored.lanes = topic, {}, {}
  return stored
end

local STORED = {'name', 'declared', 'lossy', 'u', 'n', 'cursors', 'hands', 'attended_s', 'reclaimed', 'doubted'}

local function write_group(group)
  local stored = {}
  for _, field in ipairs(STORED) do
    stored[field] = group[field]
  end
  call('SET', group_key('g', group), cmsgpack.pack(stored), 'KEEPTTL')
end

-- The topic, or nil if it was never declared here.
local function topic_of(name)
  if topics[name] then
    return topics[name]
  end
  local stored = call('HMGET', P .. 't:' .. name, 'policy', 'groups', 'books')
  if not stored[1] then
    return nil
  end
  local topic = {name = name, policy = cmsgpack.unpack(stored[1]), order = cmsgpack.unpack(stored[2]), groups = {}}
  topic.books = cmsgpack.unpack(stored[3])
  for _, group_name in ipairs(topic.order) do
    topic.groups[group_name] = read_group(topic, group_name)
  end
  topics[name] = topic
  return topic
end

local function group_of(topic_name, group_name)
  local topic = topic_of(topic_name)
  return topic and topic.groups[group_name]
end

-- A member is stored as the seconds of its last sign of life and whose it is.
local function last_sign_s(member)
  return tonumber(string.match(member, '^%S+'))
end

local function client_of(member)
  return string.match(member, ' (.*)')
end

local function is_mine(member)
  return client_of(member) == CLIENT
end

-- Whether this client has the consumer's name; one that was let go may find a successor under it.
local function owned(group, consumer)
  local member = call('HGET', group_key('c', group), consumer)
  return member and is_mine(member)
end

local function ledger_at(group, rank)
  return rank < FIRST_NORMAL and group.u or group.n
end

local function next_number()
  number = (number or tonumber(call('GET', P .. 'num') or '0')) + 1
  return number
end

local taken_ms

-- The server's own clock, once a batch.
local function server_ms()
  if not taken_ms then
    local time = call('TIME')
    taken_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return taken_ms
end

local function the_mode()
  if not mode then
    local stored = call('GET', P .. 'mode')
    mode = stored and cmsgpack.unpack(stored)
      or {active = false, cause = '', last_s = 0, entered = 0, depth = 0, depth_max = 0, resumed_s = NOW}
  end
  return mode
end

local function load_changed(group, by)
  if group.lossy then
    return
  end
  local m = mode or the_mode()
  local depth = m.depth + by
  m.depth = depth
  if depth > m.depth_max then
    m.depth_max = depth
  end
end

local function ring(kind, topic)
  bells[kind][topic.name] = true
end

local function blob_index(blob)
  if not blob or blob == '' then
    return -1
  end
  blobs[#blobs + 1] = blob
  bytes = bytes + #blob
  return #blobs - 1
end

local function blob_bytes()
  return bytes
end

local given = ARGV

local function given_blob(index)
  return index >= 0 and given[BLOBS_AT + index] or ''
end

local function write_state()
  for name, topic in pairs(topics) do
    if topic.remembers then
      local seen = P .. 'seen:' .. name
      local over = call('LLEN', seen) - SETTINGS.dedup_ids_max
      if over > 0 then
        call('HDEL', P .. 'ids:' .. name, unpack(call('LPOP', seen, over)))
      end
    end
    if topic.changed then
      create('HSET', P .. 't:' .. name, 'policy', cmsgpack.pack(topic.policy), 'groups', cmsgpack.pack(topic.order),
        'books', cmsgpack.pack(topic.books))
      for _, group_name in ipairs(topic.order) do
        write_group(topic.groups[group_name])
      end
    end
  end
  if mode then
    call('SET', P .. 'mode', cmsgpack.pack(mode), 'KEEPTTL')
  end
  if number then
    call('SET', P .. 'num', number, 'KEEPTTL')
  end
  local kept_s = call('GET', P .. 'kept')
  for key in pairs(kept_s and created or {}) do
    call('EXPIRE', key, kept_s)
  end
  for kind, names in pairs(bells) do
    for name in pairs(names) do
      call('PUBLISH', P .. 'bell', kind .. ' ' .. name)
    end
  end
end
