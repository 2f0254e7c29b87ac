-- What is only read, and the end of a namespace.

local READS = {stats = true, letters = true, letter = true, settled = true, oldest = true, history = true}

-- For each rank the id of its oldest entry that some group has not settled; false if there is none.
function OPS.oldest(op)
  write_now()
  local ids = {}
  for rank = 0, RANKS - 1 do
    local first = call('XRANGE', stream_key(op[2], rank), '-', '+', 'COUNT', 1)[1]
    ids[rank + 1] = first and first[1] or false
  end
  return ids
end

-- For each entry whether every group has settled it.
function OPS.settled(op)
  write_now()
  local topic, entries, settled = topic_of(op[2]), op[3], {}
  for i = 1, #entries do
    settled[i] = true
  end
  for _, name in ipairs(topic and topic.order or {}) do
    for first = 1, #entries, CHUNK do
      local last = math.min(first + CHUNK - 1, #entries)
      for i, stored in ipairs(call('HMGET', group_key('m', topic.groups[name]), unpack(entries, first, last))) do
        settled[first + i - 1] = settled[first + i - 1] and not stored
      end
    end
  end
  return settled
end

SELDOM[#SELDOM + 1] = function()

function OPS.stats(op)
  local shown = {}
  for _, name in ipairs(op[2]) do
    local topic = topic_of(name)
    if topic then
      local groups = {}
      for i, group_name in ipairs(topic.order) do
        local group = topic.groups[group_name]
        local consumers = call('HKEYS', group_key('c', group))
        table.sort(consumers)
        groups[i] = {group_name, group.u, group.n, consumers}
      end
      local letters = call('ZCARD', P .. 'dead:' .. name)
      shown[#shown + 1] = {name, topic.books.u, topic.books.n, letters, topic.books.let_go, groups}
    end
  end
  return shown
end

function OPS.history(op)
  local list = {}
  for i, found in ipairs(call('XRANGE', P .. 'hist:' .. op[2], '-', '+')) do
    local fields = found[2]
    local _, priority, published_s, _, taken_ms = plain_of(fields)
    list[i] = {id_of(fields), priority, published_s, blob_index(fields[6]), blob_index(fields[8]), taken_ms}
  end
  return list
end

-- Let every key of this namespace expire.
function OPS.retire(op)
  local seconds = op[2]
  call('SET', P .. 'kept', seconds, 'EX', seconds)
  for _, kind in ipairs({'gen', 'num', 'mode', 'alive', 'topics', 'reply:' .. CLIENT, 'reply:' .. CLIENT .. ':0',
    'reply:' .. CLIENT .. ':1'}) do
    call('EXPIRE', P .. kind, seconds)
  end
  for _, name in ipairs(all_topics()) do
    for rank = 0, RANKS - 1 do
      call('EXPIRE', stream_key(name, rank), seconds)
    end
    for _, kind in ipairs({'t:', 'refs:', 'seen:', 'ids:', 'signs:', 'hist:', 'dead:', 'letter:'}) do
      call('EXPIRE', P .. kind .. name, seconds)
    end
    for _, group in pairs(topic_of(name).groups) do
      for _, kind in ipairs({'g', 'c', 'm', 'held', 'hand', 'ext', 'post', 'again', 'exp'}) do
        call('EXPIRE', group_key(kind, group), seconds)
      end
    end
  end
  return true
end

end
