-- What time does: redeliver, expire, forget, and let go of consumers that gave no sign of life.

SELDOM[#SELDOM + 1] = function()

local function due(kind, group, limit)
  write_now()
  return call('ZRANGEBYSCORE', group_key(kind, group), '-inf', NOW, 'LIMIT', 0, limit)
end

local function overdue(group, entry, record)
  record.error = 'not acknowledged by ' .. record.holder .. ' before its deadline'
  give_back(group, entry, record, nil)
end

-- A hand is gone when all that was in it was given back.
local function lapse_hands(group, limit)
  local done = 0
  for _, stored in ipairs(due('held', group, limit)) do
    local number = tonumber(stored)
    for _, each in ipairs(held_in(group, number)) do
      if done >= limit then
        return done
      end
      overdue(group, each[1], each[2])
      done = done + 1
    end
    write_now()
    drop_hand(group, number)
  end
  return done
end

local function lapse(group, limit)
  local done = lapse_hands(group, limit)
  for _, entry in ipairs(due('ext', group, limit - done)) do
    local record = record_of(group, entry)
    if record then
      overdue(group, entry, record)
    else
      call('ZREM', group_key('ext', group), entry)
    end
    done = done + 1
  end
  return done
end

local function expire_due(group, limit)
  local entries = due('exp', group, limit)
  for _, entry in ipairs(entries) do
    local record = record_of(group, entry)
    call('ZREM', group_key('exp', group), entry)
    if record and record.place ~= 'h' and record.place ~= 'e' then -- in hand, it may still be finished
      expire(group, entry, record)
    end
  end
  return #entries
end

local function bring_back(group, limit)
  local entries = due('post', group, limit)
  for _, entry in ipairs(entries) do
    local record = record_of(group, entry)
    call('ZREM', group_key('post', group), entry)
    if record then
      line_up(group, entry, record)
    end
  end
  return #entries
end

local function let_the_silent_go(group)
  local silent = {}
  local consumers = call('HGETALL', group_key('c', group))
  for i = 1, #consumers, 2 do
    if NOW - last_sign_s(consumers[i + 1]) > SETTINGS.dead_after_s then
      silent[#silent + 1] = consumers[i]
    end
  end
  for _, consumer in ipairs(silent) do
    leave(group, consumer)
  end
end

local function age_letters(topic, limit)
  local done = 0
  while done < limit do
    local letter_id = call('ZRANGE', P .. 'dead:' .. topic.name, 0, 0)[1]
    if not letter_id then
      break
    end
    local letter = cmsgpack.unpack(call('HGET', P .. 'letter:' .. topic.name, letter_id))
    if NOW - letter.died_s < topic.policy.retention_s then
      break
    end
    let_go(topic, letter_id)
    topic.books.let_go = topic.books.let_go + 1
    topic.changed = true
    done = done + 1
  end
  return done
end

local DOUBTED_S = 1 -- until the books are looked through, so that nobody can have that done all the time
local RECLAIM_MAX = 64 -- entries of a rank that one round looks at; the next goes on behind them

-- The net beneath: entries that somebody read past these scripts and never acknowledged come back in line.
local function reclaim(group, rank)
  local stream = stream_key(group.topic.name, rank)
  local idle_ms = math.floor((group.topic.policy.ack_deadline_s + group.topic.policy.postpone_max_s) * 1000)
  local from = group.reclaimed[rank + 1]
  local reply = call('XAUTOCLAIM', stream, group.name, NOBODY, idle_ms, from, 'COUNT', RECLAIM_MAX)
  if reply[1] ~= from then
    group.reclaimed[rank + 1] = reply[1]
    group.topic.changed = true
  end
  for _, found in ipairs(reply[2]) do
    local entry = found and entry_name(rank, found[1])
    local record = entry and record_of(group, entry)
    if record and record.place == 'w' then
      line_up(group, entry, record)
    end
  end
end

function OPS.tick(op)
  write_now()
  local left = op[3]
  for _, name in ipairs(op[2]) do
    local topic = topic_of(name)
    if topic then
      left = left - age_letters(topic, left)
      for _, group_name in ipairs({unpack(topic.order)}) do
        local group = topic.groups[group_name]
        left = left - lapse(group, left)
        left = left - expire_due(group, left)
        left = left - bring_back(group, left)
        if group.doubted and NOW - group.doubted >= DOUBTED_S then
          set_right(group)
        end
        let_the_silent_go(group)
      end
      look_at(topic)
    end
  end
  review()
  return {op[3] - left, left <= 0, server_ms()}
end

-- ["reclaim", [topic...]]: now and then, by the server's own clock.
function OPS.reclaim(op)
  write_now()
  for _, name in ipairs(op[2]) do
    local topic = topic_of(name)
    for _, group_name in ipairs(topic and topic.order or {}) do
      local group = topic.groups[group_name]
      set_right(group)
      group.reclaimed = group.reclaimed or {'0-0', '0-0', '0-0', '0-0', '0-0', '0-0'}
      for rank = 0, RANKS - 1 do
        reclaim(group, rank)
      end
    end
  end
  return true
end

-- ["strange", [topic...]]: turn out what came in past these scripts, also where nobody takes anything. How much it was.
function OPS.strange(op)
  write_now()
  for _, name in ipairs(op[2]) do
    local topic = topic_of(name)
    for _, group_name in ipairs(topic and topic.order or {}) do
      for rank = 0, RANKS - 1 do
        strange.look(topic.groups[group_name], rank)
      end
    end
  end
  return strange.counted()
end

end
