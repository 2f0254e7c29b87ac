-- Topics, groups and their consumers: who is there.

local leave

SELDOM[#SELDOM + 1] = function()

local LEDGER = {'published', 'acked', 'dead_lettered', 'refused', 'shed', 'dropped', 'expired', 'pending',
  'pending_max', 'delivered', 'redelivered', 'replayed', 'late', 'waiting', 'rerouted'}
local BOOKS = {'published', 'accepted', 'refused', 'shed', 'unrouted', 'rerouted', 'duplicates'}

local function zeros(names)
  local table = {}
  for _, name in ipairs(names) do
    table[name] = 0
  end
  return table
end

local function new_group(topic, name, declared, lossy)
  return {
    topic = topic, name = name, declared = declared, lossy = lossy,
    u = zeros(LEDGER), n = zeros(LEDGER), cursors = {'0-0', '0-0', '0-0', '0-0', '0-0', '0-0'}, hands = 0,
    settled = {}, lanes = {},
  }
end

local function stored_groups(topic)
  local count = 0
  for _ in pairs(topic.groups) do
    count = count + 1
  end
  return count
end

-- A group sees what is published from now on.
local function make_group(topic, name, declared, lossy)
  write_now()
  local group = new_group(topic, name, declared, lossy)
  for rank = 0, RANKS - 1 do
    local stream = stream_key(topic.name, rank)
    local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    group.cursors[rank + 1] = last and last[1] or '0-0'
    call('XGROUP', 'CREATE', stream, name, group.cursors[rank + 1], 'MKSTREAM')
  end
  create('HSET', group_key('m', group), ANCHOR, ANCHORED)
  topic.groups[name] = group
  topic.order[#topic.order + 1] = name
  topic.changed = true
  return group
end

function OPS.declare(op)
  local name, policy = op[2], op[3]
  local topic = topic_of(name)
  if not topic then
    topic = {name = name, order = {}, groups = {}, books = {u = zeros(BOOKS), n = zeros(BOOKS), let_go = 0,
      letter_number = 0}}
    topics[name] = topic
    create('SADD', P .. 'topics', name)
  end
  topic.policy = policy
  topic.changed = true
  for _, group_name in ipairs(policy.groups) do
    local group = topic.groups[group_name] or make_group(topic, group_name, true, false)
    group.declared = true
  end
  return true
end

local function sign_of_life()
  return exact(NOW) .. ' ' .. CLIENT
end

-- Whether somebody is there to take what comes.
local function attended(group)
  for _, member in ipairs(call('HVALS', group_key('c', group))) do
    if NOW - last_sign_s(member) <= (group.topic.policy.stall_after_s or SETTINGS.dead_after_s) then
      return true
    end
  end
  return false
end

-- ["join", topic, group, consumer, lossy]
function OPS.join(op)
  local topic, name, consumer = topic_of(op[2]), op[3], op[4]
  if not topic then
    return {'undeclared'}
  end
  local group = topic.groups[name]
  local there = group and call('HLEN', group_key('c', group)) or 0
  if group and owned(group, consumer) then
    return true -- it joined before, and has not heard of it
  elseif group and call('HEXISTS', group_key('c', group), consumer) == 1 then
    return {'taken'}
  elseif there >= SETTINGS.consumers_max then
    return {'consumers_max', there}
  elseif not group and stored_groups(topic) >= SETTINGS.groups_max then
    return {'groups_max', stored_groups(topic)}
  end
  group = group or make_group(topic, name, false, op[5] == true)
  if not attended(group) then
    group.attended_s = NOW
    topic.changed = true
  end
  create('HSET', group_key('c', group), consumer, sign_of_life())
  return true
end

-- In the pending lists nobody stands for the consumer from now on, so that it can be deleted without loss.
local function forget_consumer(group, consumer)
  for rank = 0, RANKS - 1 do
    local stream = stream_key(group.topic.name, rank)
    while true do
      local pending = call('XPENDING', stream, group.name, '-', '+', 100, consumer)
      if #pending == 0 then
        break
      end
      local ids = {}
      for i, each in ipairs(pending) do
        ids[i] = each[1]
      end
      call('XCLAIM', stream, group.name, NOBODY, 0, unpack(ids, 1, #ids))
    end
    call('XGROUP', 'DELCONSUMER', stream, group.name, consumer)
  end
end

local function in_the_hands_of(group, consumer)
  local list = {}
  local function look(entry, record)
    if record and record.holder == consumer then
      list[#list + 1] = {entry, record}
    end
  end
  for _, number in ipairs(call('ZRANGE', group_key('held', group), 0, -1)) do
    for _, each in ipairs(held_in(group, tonumber(number))) do
      look(each[1], each[2])
    end
  end
  for _, entry in ipairs(call('ZRANGE', group_key('ext', group), 0, -1)) do
    look(entry, record_of(group, entry))
  end
  return list
end

-- An undeclared group is over with its last consumer, and what it had pending too.
local function end_group(group)
  local topic = group.topic
  for _, entry in ipairs(call('HKEYS', group_key('m', group))) do
    if entry ~= ANCHOR then
      settle(group, entry, record_of(group, entry))
    end
  end
  write_now()
  for rank = 0, RANKS - 1 do
    call('XGROUP', 'DESTROY', stream_key(topic.name, rank), group.name)
  end
  for _, kind in ipairs({'g', 'c', 'm', 'held', 'hand', 'ext', 'post', 'again', 'exp'}) do
    call('DEL', group_key(kind, group))
  end
  topic.groups[group.name] = nil
  local order = {}
  for _, name in ipairs(topic.order) do
    if name ~= group.name then
      order[#order + 1] = name
    end
  end
  topic.order = order
  topic.changed = true
  ring('r', topic)
end

-- What the consumer held goes to the others at once, its attempts counted.
function leave(group, consumer)
  if call('HDEL', group_key('c', group), consumer) == 0 then
    return
  end
  write_now()
  for _, each in ipairs(in_the_hands_of(group, consumer)) do
    local record = each[2]
    if record.error == '' then
      record.error = 'consumer ' .. consumer .. ' left with it in hand'
    end
    give_back(group, each[1], record, 0)
  end
  write_now()
  forget_consumer(group, consumer)
  if not group.declared and call('HLEN', group_key('c', group)) == 0 then
    end_group(group)
  end
end

function OPS.leave(op)
  local group = group_of(op[2], op[3])
  if group and owned(group, op[4]) then
    leave(group, op[4])
  end
  return true
end

-- ["succeed", [topic...], group]: the other clients that consume for this group are gone for good, wherever else they
-- consumed. What they held is to be had at once; a group of their own is over.
function OPS.succeed(op)
  local dead = {}
  for _, name in ipairs(op[2]) do
    local group = group_of(name, op[3])
    for _, member in ipairs(group and call('HVALS', group_key('c', group)) or {}) do
      dead[client_of(member)] = not is_mine(member) or nil
    end
  end
  for _, name in ipairs(op[2]) do
    local topic = topic_of(name)
    for _, group_name in ipairs(topic and {unpack(topic.order)} or {}) do
      local group = topic.groups[group_name]
      local members = call('HGETALL', group_key('c', group))
      for i = 1, #members, 2 do
        if dead[client_of(members[i + 1])] then
          leave(group, members[i])
        end
      end
    end
  end
  return true
end

-- For each of the consumers whether it still is a member: one that was silent for too long is not, even if
-- another client joined under its name meanwhile.
function OPS.beat(op)
  local there = {}
  for i, each in ipairs(op[2]) do
    local group = group_of(each[1], each[2])
    there[i] = group ~= nil and owned(group, each[3])
    if there[i] then
      create('HSET', group_key('c', group), each[3], sign_of_life())
    end
  end
  return there
end

end
