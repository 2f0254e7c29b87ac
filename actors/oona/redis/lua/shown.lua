-- What is only read, and the end of a namespace.

local READS = {stats = true, letters = true, letter = true, settled = true, history = true}

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

-- For each entry whether every group has settled it.
function OPS.settled(op)
  write_now()
  local settled = {}
  for i, entry in ipairs(op[3]) do
    local rank, id = split(entry)
    settled[i] = #call('XRANGE', stream_key(op[2], rank), id, id) == 0
  end
  return settled
end

function OPS.history(op)
  local list = {}
  for i, found in ipairs(call('XRANGE', P .. 'hist:' .. op[2], '-', '+')) do
    local fields = found[2]
    local plain = plain_of(fields)
    list[i] = {fields[2], plain[2], plain[3], blob_index(fields[6]), blob_index(fields[8]), plain[5]}
  end
  return list
end

-- Let every key of this namespace expire.
function OPS.retire(op)
  local seconds = op[2]
  call('SET', P .. 'kept', seconds, 'EX', seconds)
  for _, kind in ipairs({'gen', 'num', 'mode', 'alive', 'topics', 'reply:' .. CLIENT}) do
    call('EXPIRE', P .. kind, seconds)
  end
  for _, name in ipairs(all_topics()) do
    for rank = 0, RANKS - 1 do
      call('EXPIRE', stream_key(name, rank), seconds)
    end
    for _, kind in ipairs({'t:', 'refs:', 'seen:', 'ids:', 'hist:', 'dead:', 'letter:'}) do
      call('EXPIRE', P .. kind .. name, seconds)
    end
    for _, group in pairs(topic_of(name).groups) do
      for _, kind in ipairs({'g', 'c', 'm', 'held', 'ext', 'post', 'again', 'exp'}) do
        call('EXPIRE', group_key(kind, group), seconds)
      end
    end
  end
  return true
end
