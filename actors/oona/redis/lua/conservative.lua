-- Conservative mode: an overloaded bus takes urgent traffic only, until it has been calm for a while.

local look_at, review

SELDOM[#SELDOM + 1] = function()

local function with_commas(n)
  local text = tostring(n)
  local done
  repeat
    text, done = string.gsub(text, '^(%-?%d+)(%d%d%d)', '%1,%2')
  until done == 0
  return text
end

local function described(group, lane, ledger, capacity)
  return 'the ' .. lane .. ' lane of group ' .. group.name .. ' holds ' .. ledger.pending .. ' messages ('
    .. ledger.waiting .. ' waiting) of at most ' .. capacity
end

-- When each consumer was there last, and when anybody was.
local function last_signs(group)
  local signs, newest_s = {}, 0
  local consumers = call('HGETALL', group_key('c', group))
  for i = 1, #consumers, 2 do
    local sign_s = is_mine(consumers[i + 1]) and NOW or last_sign_s(consumers[i + 1])
    signs[consumers[i]] = sign_s
    newest_s = math.max(newest_s, sign_s)
  end
  return signs, newest_s
end

local HANDS_LOOKED_AT = 16

-- Seconds that somebody has held something, at most.
local function longest_held_s(group, signs, from_s)
  local longest_s = 0
  for _, number in ipairs(call('ZRANGE', group_key('held', group), 0, HANDS_LOOKED_AT - 1)) do
    local sign_s = signs[holder_of(group, tonumber(number)) or '']
    if sign_s then
      longest_s = math.max(longest_s, sign_s - math.max(from_s, (hand_at(group, number))))
    end
  end
  return longest_s
end

-- Seconds that something has waited for a consumer, at most.
local function longest_waited_s(group, until_s, from_s)
  local oldest_s = until_s
  local function look(record)
    if record and record.since_s < oldest_s then
      oldest_s = record.since_s
    end
  end
  if group.u.waiting + group.n.waiting > 0 then
    for rank = 0, RANKS - 1 do
      local again = again_head(group, rank)
      if again then
        look(record_of(group, again))
      end
      local _, record = head_of(group, rank)
      look(record)
    end
  end
  return until_s - math.max(from_s, oldest_s)
end

-- Seconds that some message has waited for a consumer, or been in hand. Only who is there can be late: it counts up
-- to the last sign of life, and from when somebody came, or the server was there again.
local function age_s(group)
  write_now()
  local signs, newest_s = last_signs(group)
  local from_s = math.max(the_mode().resumed_s, group.attended_s or 0)
  return math.max(longest_held_s(group, signs, from_s), longest_waited_s(group, newest_s, from_s))
end

local function cause_of(topic)
  local stall_after_s = topic.policy.stall_after_s
  for _, name in ipairs(topic.order) do
    local group = topic.groups[name]
    if not group.lossy then
      if urgent_full(group.u, topic.policy) then
        return topic.name .. ': ' .. described(group, 'urgent', group.u, topic.policy.urgent_capacity)
      end
      local age = stall_after_s and age_s(group) or 0
      if stall_after_s and age > stall_after_s then
        return topic.name .. ': group ' .. name .. ' has left a message unacknowledged for '
          .. string.format('%.1f', age) .. ' s'
      end
    end
  end
  return ''
end

-- Enter the mode, or stay in it, if this topic or the depth is a cause.
function look_at(topic)
  local m = the_mode()
  local cause
  if m.depth > SETTINGS.high_mark then
    cause = with_commas(m.depth) .. ' messages are unsettled, above the high mark of '
      .. with_commas(SETTINGS.high_mark)
  else
    cause = cause_of(topic)
  end
  if cause == '' then
    return
  end
  m.last_s = NOW
  if not m.active then
    m.active, m.cause, m.entered = true, cause, m.entered + 1
  end
end

function review()
  local m = the_mode()
  if m.active and m.depth < SETTINGS.low_mark and NOW - m.last_s >= SETTINGS.dwell_s then
    m.active, m.cause = false, ''
  end
end

end

function look_at(topic)
  make_seldom()
  look_at(topic)
end
