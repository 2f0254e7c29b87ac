-- Conservative mode: an overloaded bus takes urgent traffic only, until it has been calm for a while.

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

-- Seconds that some message has waited for a consumer, or been in hand without a sign of life. While nobody at all
-- could reach the server, nobody could be late.
local function age_s(group)
  write_now()
  if call('HLEN', group_key('c', group)) == 0 then
    return 0
  end
  local oldest_s = NOW
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
  local hand = call('ZRANGE', group_key('held', group), 0, 0)[1]
  local taken_s = hand and hand_at(group, hand)
  if taken_s and taken_s < oldest_s then
    oldest_s = taken_s
  end
  return NOW - math.max(oldest_s, the_mode().resumed_s)
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
local function look_at(topic)
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

local function review()
  local m = the_mode()
  if m.active and m.depth < SETTINGS.low_mark and NOW - m.last_s >= SETTINGS.dwell_s then
    m.active, m.cause = false, ''
  end
end
