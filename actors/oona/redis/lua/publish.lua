-- Whether a message is taken, by all groups of its topic or by none, and what happens without room.
-- A lossy group never holds a publisher up: when it is full its oldest makes room, or it goes without.

local OPS = {}

-- Refused, or shed: the topic and each of its groups write it down.
local function turn_away(topic, priority, what, count)
  local books = books_of(topic, priority)
  books.published = books.published + count
  books[what] = books[what] + count
  for _, group in pairs(topic.groups) do
    local ledger = priority >= LOWEST_URGENT and group.u or group.n
    ledger.published = ledger.published + count
    ledger[what] = ledger[what] + count
  end
  topic.changed = true
end

local NONE = {}

local function full_groups(topic, lane)
  local list = NONE
  local policy = topic.policy
  for _, name in ipairs(topic.order) do
    local group = topic.groups[name]
    local ledger = lane == 'urgent' and group.u or group.n
    local capacity = lane == 'urgent' and policy.urgent_capacity or policy.capacity
    if ledger.pending >= capacity and not group.lossy then
      list = list == NONE and {} or list
      list[#list + 1] = {name, lane, ledger.pending, ledger.waiting, capacity}
    end
  end
  return list
end

local function refuse(topic, message, list)
  turn_away(topic, message.priority, 'refused', 1)
  return {'full', list}
end

-- The waiting entry of some ranks that was published first.
local function oldest(group, first_rank, last_rank)
  write_now()
  local best, best_record
  for rank = first_rank, last_rank do
    local again = again_head(group, rank)
    local head, record = head_of(group, rank)
    for _, each in ipairs({{again, again and record_of(group, again)}, {head, record}}) do
      if each[1] and (not best or each[2].number < best_record.number) then
        best, best_record = each[1], each[2]
      end
    end
  end
  return best, best_record
end

local function drop_oldest(group, first_rank, last_rank)
  local entry, record = oldest(group, first_rank, last_rank)
  local ledger = ledger_at(group, first_rank)
  ledger.dropped = ledger.dropped + 1
  settle(group, entry, record)
end

-- A lossy group makes room for itself; false if all it has is in hand: then it goes without this message.
local function lossy_room(group, rank)
  local policy, ledger = group.topic.policy, ledger_at(group, rank)
  local urgent = rank < FIRST_NORMAL
  if ledger.pending < (urgent and policy.urgent_capacity or policy.capacity) then
    return true
  end
  if ledger.waiting > 0 then
    drop_oldest(group, urgent and 0 or FIRST_NORMAL, urgent and REROUTED or RANKS - 1)
    return true
  end
  ledger.published = ledger.published + 1
  ledger.dropped = ledger.dropped + 1
  return false
end

local function add(stream, message)
  local plain = struct.pack(PLAIN, message.number, message.priority, message.published_s, message.expires_s,
    message.taken_ms or server_ms(), NOW)
  if message.signature == '' then
    return create('XADD', stream, '*', 'id', message.id, 'plain', plain, 'envelope', message.envelope)
  end
  return create('XADD', stream, '*', 'id', message.id, 'plain', plain, 'envelope', message.envelope, 'signature',
    message.signature)
end

local function enter_for(topic, message, rank, groups)
  local entry = entry_name(rank, add(stream_key(topic.name, rank), message))
  for _, group in ipairs(groups) do
    admit(group, entry, rank, message, #groups > 1 and SHARED or SOLE)
  end
  if #groups > 1 then
    write_pair_later('HSET', P .. 'refs:' .. topic.name, entry, #groups)
  end
  return entry
end

-- Into the stream of `rank`, or of the rank that `ranks` names for a group; returns the names of the entries.
local function enter(topic, message, rank, ranks)
  message.number = next_number()
  local takers, others = {}, {}
  for _, name in ipairs(topic.order) do
    local group = topic.groups[name]
    local list = (ranks and ranks[name]) and others or takers
    if not group.lossy or lossy_room(group, ranks and ranks[name] or rank) then
      list[#list + 1] = group
    end
  end
  local entry = #takers > 0 and enter_for(topic, message, rank, takers)
  local other = #others > 0 and enter_for(topic, message, REROUTED, others)
  return entry and other and entry .. ' ' .. other or entry or other or ''
end

local function remember(topic, message, entries)
  topic.taken = topic.taken or {}
  topic.taken[message.id] = entries
  write_later('RPUSH', P .. 'seen:' .. topic.name, message.id)
  write_pair_later('HSET', P .. 'ids:' .. topic.name, message.id, entries)
end

-- What the window has of all that this batch publishes to a topic, looked up at once.
local function looked_up(topic)
  local ids, known = {}, {}
  for _, op in ipairs(ops) do
    if op[1] == 'publish' and op[2] == topic.name then
      ids[#ids + 1] = op[3]
    end
  end
  for first = 1, #ids, CHUNK do
    local last = math.min(first + CHUNK - 1, #ids)
    for i, entries in ipairs(call('HMGET', P .. 'ids:' .. topic.name, unpack(ids, first, last))) do
      known[ids[first + i - 1]] = entries
    end
  end
  return known
end

-- The names of the entries of an id in the window; false if it is not there.
local function entries_of(topic, id)
  topic.known = topic.known or looked_up(topic)
  return (topic.taken and topic.taken[id]) or topic.known[id]
end

local function copy_to_history(topic, message)
  local history = topic.policy.history
  if history > 0 then
    local stream = P .. 'hist:' .. topic.name
    add(stream, message)
    call('XTRIM', stream, 'MAXLEN', history)
  end
end

local function accept(topic, message, what, ranks)
  local books = books_of(topic, message.priority)
  local entries = enter(topic, message, RANK_OF[message.priority], ranks)
  remember(topic, message, entries)
  copy_to_history(topic, message)
  books.published = books.published + 1
  books.accepted = books.accepted + 1
  if what == 'rerouted' then
    books.rerouted = books.rerouted + 1
  end
  topic.changed = true
  return what == 'accepted' and entries or {what, entries}
end

local function offer_urgent(topic, message)
  local list = full_groups(topic, 'urgent')
  if #list > 0 then
    return refuse(topic, message, list)
  end
  return accept(topic, message, 'accepted')
end

local function reroute(topic, message, list)
  local policy = topic.policy
  local ranks = {}
  for _, each in ipairs(list) do
    local urgent = topic.groups[each[1]].u
    if urgent_full(urgent, policy) or urgent.rerouted >= policy.reroute_capacity then
      return refuse(topic, message, list)
    end
    ranks[each[1]] = REROUTED
  end
  return accept(topic, message, 'rerouted', ranks)
end

local function make_room(topic, message, list)
  for _, each in ipairs(list) do
    if each[4] == 0 then
      return refuse(topic, message, list) -- it is all in hand or postponed
    end
  end
  for _, each in ipairs(list) do
    drop_oldest(topic.groups[each[1]], FIRST_NORMAL, RANKS - 1)
  end
  return accept(topic, message, 'accepted')
end

local function offer_normal(topic, message)
  if the_mode().active then
    turn_away(topic, message.priority, 'shed', 1)
    return {'shed'}
  end
  local list = full_groups(topic, 'normal')
  local overflow = topic.policy.overflow
  if #list == 0 then
    return accept(topic, message, 'accepted')
  elseif overflow == 'wait' then
    return {'wait'}
  elseif overflow == 'drop_oldest' then
    return make_room(topic, message, list)
  elseif overflow == 'reroute' then
    return reroute(topic, message, list)
  end
  return refuse(topic, message, list)
end

local function offer(topic, message)
  local books = books_of(topic, message.priority)
  local known = entries_of(topic, message.id)
  if known then
    books.duplicates = books.duplicates + 1
    topic.changed = true
    return {'duplicate', known}
  elseif #topic.order == 0 then
    message.number = next_number()
    books.published = books.published + 1
    books.unrouted = books.unrouted + 1
    topic.changed = true
    copy_to_history(topic, message)
    return {'unrouted'}
  elseif message.priority >= LOWEST_URGENT then
    return offer_urgent(topic, message)
  end
  return offer_normal(topic, message)
end

function OPS.publish(op)
  local topic = topic_of(op[2])
  if not topic then
    return {'undeclared'}
  end
  local message = {
    id = op[3], priority = op[4], published_s = op[5], expires_s = op[6] or NEVER, envelope = given_blob(op[7]),
    signature = given_blob(op[8]),
  }
  local result = offer(topic, message)
  local urgent = message.priority >= LOWEST_URGENT or result[1] == 'rerouted'
  if urgent or the_mode().depth > SETTINGS.high_mark then
    look_at(topic)
  end
  return result
end

function OPS.count(op)
  local topic = topic_of(op[2])
  if topic then
    turn_away(topic, op[3] and LOWEST_URGENT or 1, op[4], op[5])
  end
  return true
end
