-- Dead letters: listed, looked at, queued again, dropped.

local all_topics

SELDOM[#SELDOM + 1] = function()

function all_topics()
  local names = call('SMEMBERS', P .. 'topics')
  table.sort(names)
  return names
end

local function shown_letter(topic_name, letter_id)
  local stored = call('HGET', P .. 'letter:' .. topic_name, letter_id)
  if not stored then
    return nil
  end
  local letter = cmsgpack.unpack(stored)
  return {
    letter_id, topic_name, letter.group, letter.id, letter.priority, letter.attempts, letter.error, letter.died_s,
    blob_index(letter.envelope), blob_index(letter.signature), letter.taken_ms,
  }, letter
end

-- The topic that keeps this letter.
local function topic_with(letter_id)
  for _, name in ipairs(all_topics()) do
    if call('HEXISTS', P .. 'letter:' .. name, letter_id) == 1 then
      return topic_of(name)
    end
  end
end

function OPS.letters(op)
  local list = {}
  for _, name in ipairs(op[2] and {op[2]} or all_topics()) do
    for _, letter_id in ipairs(call('ZRANGE', P .. 'dead:' .. name, 0, -1)) do
      local stored = cmsgpack.unpack(call('HGET', P .. 'letter:' .. name, letter_id))
      if (not op[3] or stored.group == op[3]) and #blobs < BLOBS_MAX then
        list[#list + 1] = shown_letter(name, letter_id)
      end
    end
  end
  return list
end

function OPS.letter(op)
  local topic = topic_with(op[2])
  return topic and (shown_letter(topic.name, op[2])) or false
end

-- ["replay", letter, expires, signature]: again in the group that gave it up, as a new message with all its attempts; or it stays a letter.
function OPS.replay(op)
  local letter_id = op[2]
  local topic = topic_with(letter_id)
  if not topic then
    return {'unknown'}
  end
  local letter = cmsgpack.unpack(call('HGET', P .. 'letter:' .. topic.name, letter_id))
  local group = topic.groups[letter.group]
  if not group then
    return {'nogroup'}
  end
  local urgent = letter.priority >= LOWEST_URGENT
  local ledger, lane = urgent and group.u or group.n, urgent and 'urgent' or 'normal'
  local capacity = urgent and topic.policy.urgent_capacity or topic.policy.capacity
  if the_mode().active and not urgent then
    return {'shed'}
  elseif ledger.pending >= capacity then
    return {'full', {{group.name, lane, ledger.pending, ledger.waiting, capacity}}}
  end
  local rank = RANK_OF[letter.priority]
  local message = {
    id = letter.id, priority = letter.priority, published_s = NOW, expires_s = op[3] or NEVER, number = next_number(),
    envelope = letter.envelope, signature = op[4] and given_blob(op[4]) or letter.signature,
    taken_ms = not op[4] and letter.taken_ms or nil,
  }
  local entry = entry_name(rank, add(stream_key(topic.name, rank), message))
  let_go(topic, letter_id)
  ledger.replayed = ledger.replayed + 1
  admit(group, entry, rank, message, SOLE)
  return true
end

function OPS.drop(op)
  local topic = topic_with(op[2])
  if not topic then
    return {'unknown'}
  end
  let_go(topic, op[2])
  return true
end

end
