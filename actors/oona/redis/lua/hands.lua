-- Hands: what one take gave one group. They share their deadline, so that it is written once for all of them.
-- An entry that left its hand is still named there; its record says where it is. An empty hand is gone.

local function hand_key(group)
  return group_key('hand', group)
end

local function changed(group)
  local change = changed_hands[group]
  if not change then
    change = {left = {}}
    changed_hands[group] = change
  end
  return change
end

-- The hand into which this batch puts what the group is given, until it is written.
local function open_hand(group, due_s)
  local change = changed(group)
  if not change.hand then
    group.hands = (group.hands or 0) + 1
    change.hand = {number = group.hands, due_s = due_s, n = 0}
  end
  return change.hand
end

local function put(hand, entry)
  local n = hand.n + 1
  hand.n = n
  hand[n] = entry
end

local function out_of_hand(group, number)
  local left = changed(group).left
  left[number] = (left[number] or 0) + 1
end

local function drop_hand(group, number)
  call('ZREM', group_key('held', group), number)
  call('HDEL', hand_key(group), number, 'n' .. number)
end

function write_hands()
  local todo = changed_hands
  changed_hands = {}
  for group, change in pairs(todo) do
    local hand = change.hand
    if hand then
      create('ZADD', group_key('held', group), exact(hand.due_s), hand.number)
      create('HSET', hand_key(group), hand.number, exact(NOW) .. ' ' .. table.concat(hand, ' ', 1, hand.n),
        'n' .. hand.number, hand.n)
    end
    for number, count in pairs(change.left) do
      if create('HINCRBY', hand_key(group), 'n' .. number, -count) <= 0 then
        drop_hand(group, number)
      end
    end
  end
end

-- Since when a hand is full, and the entries that were put into it.
local function hand_at(group, number)
  local since_s, names = string.match(call('HGET', hand_key(group), number) or '', '^(%S+) (.*)$')
  local entries = {}
  for entry in string.gmatch(names or '', '%S+') do
    entries[#entries + 1] = entry
  end
  return tonumber(since_s), entries
end
