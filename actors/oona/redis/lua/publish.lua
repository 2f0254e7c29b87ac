-- Whether a message is taken, by all groups of its topic or by none, and what happens without room.
-- A lossy group never holds a publisher up: when it is full its oldest makes room, or it goes without.

function MAKE.publish()

local function books_of(topic, priority)
  return priority >= LOWEST_URGENT and topic.books.u or topic.books.n
end

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

-- The groups without room in a lane; nil if there are none.
local function full_groups(topic, lane)
  local urgent, order, groups = lane == 'urgent', topic.order, topic.groups
  local capacity = urgent and topic.policy.urgent_capacity or topic.policy.capacity
  local list
  for i = 1, #order do
    local group = groups[order[i]]
    local ledger = urgent and group.u or group.n
    if ledger.pending >= capacity and not group.lossy then
      list = list or {}
      list[#list + 1] = {group.name, lane, ledger.pending, ledger.waiting, capacity}
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

-- Whether there is room now. Where nothing waits though the books say so, somebody deleted it past these scripts: then
-- the books are set right.
local function drop_oldest(group, first_rank, last_rank, capacity)
  local entry, record = oldest(group, first_rank, last_rank)
  local ledger = ledger_at(group, first_rank)
  if not entry then
    set_right(group)
    return ledger.pending < capacity
  end
  ledger.dropped = ledger.dropped + 1
  settle(group, entry, record)
  return true
end

-- A lossy group makes room for itself; false if all it has is in hand: then it goes without this message.
local function lossy_room(group, rank)
  local policy, ledger = group.topic.policy, ledger_at(group, rank)
  local urgent = rank < FIRST_NORMAL
  local capacity = urgent and policy.urgent_capacity or policy.capacity
  if ledger.pending < capacity then
    return true
  end
  if ledger.waiting > 0
    and drop_oldest(group, urgent and 0 or FIRST_NORMAL, urgent and REROUTED or RANKS - 1, capacity) then
    return true
  end
  ledger.published = ledger.published + 1
  ledger.dropped = ledger.dropped + 1
  return false
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
  local order = topic.order
  local first = topic.groups[order[1]]
  if not order[2] and not ranks and not first.lossy then
    local entry = entry_name(rank, add(stream_key(topic.name, rank), message))
    admit(first, entry, rank, message, SOLE)
    return entry
  end
  local takers, others = {}, {}
  for _, name in ipairs(order) do
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

-- What the window has of all that this batch publishes to a topic, looked up at once: by id the names of its entries,
-- false if it is not there.
local function looked_up(topic)
  local known = {}
  for _, op in ipairs(ops) do
    local ids = op[3]
    for first = 1, op[1] == 'publish' and op[2] == topic.name and #ids or 0, CHUNK do
      local last = math.min(first + CHUNK - 1, #ids)
      local found = call('HMGET', P .. 'ids:' .. topic.name, unpack(ids, first, last))
      for i = first, last do
        known[ids[i]] = found[i - first + 1]
      end
    end
  end
  return known
end

-- Make sure of the topic's window, with the lists that gather what goes into it.
local function look_up_window(topic)
  topic.window = topic.window or {
    known = looked_up(topic), seen = list_of('RPUSH', P .. 'seen:' .. topic.name),
    ids = list_of('HSET', P .. 'ids:' .. topic.name),
  }
end

local function remember(topic, message, entries)
  local window, id = topic.window, message.id
  topic.remembers = true
  window.known[id] = entries
  gather(window.seen, id)
  gather_pair(window.ids, id, entries)
end

local function copy_to_history(topic, message)
  local history = topic.policy.history
  if history > 0 then
    local stream = P .. 'hist:' .. topic.name
    add(stream, message)
    call('XTRIM', stream, 'MAXLEN', history)
  end
end

-- The names of its entries.
local function accept(topic, message, ranks)
  local books = books_of(topic, message.priority)
  local entries = enter(topic, message, RANK_OF[message.priority], ranks)
  remember(topic, message, entries)
  copy_to_history(topic, message)
  books.published = books.published + 1
  books.accepted = books.accepted + 1
  topic.changed = true
  return entries
end

local function offer_urgent(topic, message)
  local list = full_groups(topic, 'urgent')
  return list and refuse(topic, message, list) or accept(topic, message)
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
  local books = books_of(topic, message.priority)
  local entries = accept(topic, message, ranks)
  books.rerouted = books.rerouted + 1
  look_at(topic)
  return {'rerouted', entries}
end

local function make_room(topic, message, list)
  for _, each in ipairs(list) do
    if each[4] == 0 then
      return refuse(topic, message, list) -- it is all in hand or postponed
    end
  end
  for _, each in ipairs(list) do
    if not drop_oldest(topic.groups[each[1]], FIRST_NORMAL, RANKS - 1, topic.policy.capacity) then
      return refuse(topic, message, list)
    end
  end
  return accept(topic, message)
end

local function offer_normal(topic, message, mode_now)
  if mode_now.active then
    turn_away(topic, message.priority, 'shed', 1)
    return {'shed'}
  end
  local list = full_groups(topic, 'normal')
  local overflow = topic.policy.overflow
  if not list then
    return accept(topic, message)
  elseif overflow == 'wait' then
    return {'wait'}
  elseif overflow == 'drop_oldest' then
    return make_room(topic, message, list)
  elseif overflow == 'reroute' then
    return reroute(topic, message, list)
  end
  return refuse(topic, message, list)
end

local function offer(topic, message, mode_now)
  local known = topic.window.known[message.id]
  if known then
    local books = books_of(topic, message.priority)
    books.duplicates = books.duplicates + 1
    topic.changed = true
    return {'duplicate', known}
  elseif #topic.order == 0 then
    local books = books_of(topic, message.priority)
    message.number = next_number()
    books.published = books.published + 1
    books.unrouted = books.unrouted + 1
    topic.changed = true
    copy_to_history(topic, message)
    return {'unrouted'}
  elseif message.priority >= LOWEST_URGENT then
    return offer_urgent(topic, message)
  end
  return offer_normal(topic, message, mode_now)
end

-- ["publish", topic, [id...], [priority...], [published...], [expires...], [envelope...], [signature...]]: messages of one
-- topic; each has a result of its own.
function OPS.publish(op)
  local topic = topic_of(op[2])
  local ids, priorities, published, expires, envelopes, signatures = op[3], op[4], op[5], op[6], op[7], op[8]
  local mode_now = the_mode()
  local message = {id = '', priority = 0, published_s = 0, expires_s = 0, envelope = '', signature = '', number = 0} -- each in turn
  if topic then
    look_up_window(topic)
  end
  for i = 1, #ids do
    local result
    if topic then
      message.id, message.priority, message.published_s = ids[i], priorities[i], published[i]
      message.expires_s = expires[i] or NEVER
      message.envelope, message.signature = given_blob(envelopes[i]), given_blob(signatures[i])
      result = offer(topic, message, mode_now)
      if message.priority >= LOWEST_URGENT or mode_now.depth > SETTINGS.high_mark then
        look_at(topic)
      end
    else
      result = {'undeclared'}
    end
    results[#results + 1] = result
  end
end

function OPS.count(op)
  local topic = topic_of(op[2])
  if topic then
    turn_away(topic, op[3] and LOWEST_URGENT or 1, op[4], op[5])
  end
  return true
end

end

MAKE.count = MAKE.publish
