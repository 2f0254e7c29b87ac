-- What consumers take and what they say of it.

local function hold(group, entry, rank, record, consumer)
  local ledger = ledger_at(group, rank)
  out_of_place(group, entry, record)
  record.place = 'h'
  record.attempts = record.attempts + 1
  record.since_s = NOW
  record.due_s = NOW + group.topic.policy.ack_deadline_s
  record.holder = consumer
  record.hand = into_hand(group, entry, record.due_s)
  write_pair_later('HSET', group_key('m', group), entry, packed(record))
  ledger.delivered = ledger.delivered + 1
  if record.attempts > 1 then
    ledger.redelivered = ledger.redelivered + 1
  end
  group.topic.changed = true
end

local function hand_out(taken, group, entry, rank, record, fields, consumer, priority, published_s, taken_ms)
  hold(group, entry, rank, record, consumer)
  local signed_ms, signature = as_signed(group.topic, entry, fields, taken_ms)
  taken[#taken + 1] = {
    group.topic.name, entry, id_of(fields), priority, rank < FIRST_NORMAL and 'urgent' or 'normal', record.attempts, published_s,
    record.due_s, blob_index(fields[6]), blob_index(signature), signed_ms,
  }
end

-- How many entries may be read at a time: an answer is bounded in blobs (unpack takes some 8,000) and bytes.
local BLOBS_MAX, BYTES_MAX, READ_MAX = 4000, 2 ^ 20, 64

local function room_for(wanted, topic)
  if blob_bytes() >= BYTES_MAX then
    ring('m', topic) -- for the rest
    return 0
  end
  local room = math.floor((BLOBS_MAX - #blobs) / 2)
  if room <= 0 then
    ring('m', topic)
    return 0
  end
  return math.min(wanted, room, READ_MAX)
end

-- What waits once more comes before what is new.
local function take_again(taken, group, rank, consumer, limit)
  local from, to = rank * RANK_SPAN, '(' .. exact((rank + 1) * RANK_SPAN)
  local stream = stream_key(group.topic.name, rank)
  while #taken < limit do
    local wanted = room_for(limit - #taken, group.topic)
    local entries = wanted > 0 and call('ZRANGEBYSCORE', group_key('again', group), from, to, 'LIMIT', 0, wanted) or {}
    if #entries == 0 then
      return
    end
    for _, entry in ipairs(entries) do
      local record = record_of(group, entry)
      if has_expired(record) then
        expire(group, entry, record)
      else
        local _, id = split(entry)
        local fields = fields_at(stream, id)
        if fields[1] then
          local _, priority, published_s, _, taken_ms = plain_of(fields)
          call('XCLAIM', stream, group.name, consumer, 0, id, 'JUSTID')
          hand_out(taken, group, entry, rank, record, fields, consumer, priority, published_s, taken_ms)
        else
          lose(group, entry, record)
        end
      end
    end
    write_now()
  end
end

-- The entries' names, and what the group knows of each: a marker, or false.
local function markers_of(group, rank, entries)
  local names = {}
  for i, found in ipairs(entries) do
    names[i] = entry_name(rank, found[1])
  end
  return names, #names > 0 and call('HMGET', group_key('m', group), unpack(names)) or {}
end

-- What came in past these scripts: no group knows of it, or ever did.
local strange = {count = 0}

function strange.turn_out(topic, entry)
  if call('HEXISTS', P .. 'refs:' .. topic.name, entry) == 1 then
    return
  end
  for _, name in ipairs(topic.order) do
    if call('HEXISTS', group_key('m', topic.groups[name]), entry) == 1 then
      return
    end
  end
  local rank, id = split(entry)
  strange.count = strange.count + call('XDEL', stream_key(topic.name, rank), id)
end

-- Of what a group has not been given yet.
function strange.look(group, rank)
  local from, limit = '(' .. group.cursors[rank + 1], 64
  local entries = call('XRANGE', stream_key(group.topic.name, rank), from, '+', 'COUNT', limit)
  local names, markers = markers_of(group, rank, entries)
  for i, name in ipairs(names) do
    if not markers[i] then
      strange.turn_out(group.topic, name)
    end
  end
end

function strange.counted()
  local count = strange.count
  strange.count = 0
  return count
end

local function take_new(taken, group, rank, consumer, limit)
  local stream = stream_key(group.topic.name, rank)
  while #taken < limit do
    local wanted = room_for(limit - #taken, group.topic)
    if wanted == 0 then
      return
    end
    local reply = call('XREADGROUP', 'GROUP', group.name, consumer, 'COUNT', wanted, 'STREAMS', stream, '>')
    local entries = reply and reply[1][2] or {}
    local names, markers = markers_of(group, rank, entries)
    for i, found in ipairs(entries) do
      local id, entry, marker = found[1], names[i], markers[i]
      local record, priority, published_s, taken_ms
      if marker then
        record, priority, published_s, taken_ms = new_record(found[2], marker)
      end
      group.cursors[rank + 1] = id
      if not record then
        acknowledge_later(stream, group, id) -- settled while it waited, or not meant for this group
        strange.turn_out(group.topic, entry)
      elseif has_expired(record) then
        expire(group, entry, record)
      else
        hand_out(taken, group, entry, rank, record, found[2], consumer, priority, published_s, taken_ms)
      end
    end
    if #entries < wanted then
      return
    end
  end
end

local function take_lane(taken, group, first_rank, last_rank, consumer, limit)
  if ledger_at(group, first_rank).waiting <= 0 then
    if not group.doubted then
      return
    end
    set_right(group)
  end
  local before = #taken
  for rank = first_rank, last_rank do
    take_again(taken, group, rank, consumer, limit)
    take_new(taken, group, rank, consumer, limit)
  end
  if #taken == before and limit > before and room_for(1, group.topic) > 0 and ledger_at(group, first_rank).waiting > 0 then
    set_right(group)
  end
end

-- What it is given, and how many strange entries were met. False: this consumer is not, or no longer, a member of one of the groups; it has to join again.
function OPS.take(op)
  local group_name, consumer, names, taken, groups = op[2], op[3], op[4], {}, {}
  write_now()
  for _, name in ipairs(names) do
    local group = group_of(name, group_name)
    if not group or not owned(group, consumer) then
      return false
    end
    groups[#groups + 1] = group
  end
  for _, group in ipairs(groups) do
    take_lane(taken, group, 0, REROUTED, consumer, op[5])
  end
  local limit = math.min(op[5], #taken + op[6])
  for _, group in ipairs(groups) do
    take_lane(taken, group, FIRST_NORMAL, RANKS - 1, consumer, limit)
  end
  return {taken, strange.counted()}
end

-- The group and the record of an entry in these hands; nil if it is in others, or settled.
local function in_hand(op)
  local group = group_of(op[2], op[3])
  if not group then
    return nil
  end
  local record = record_of(group, op[4])
  if record and (record.place == 'h' or record.place == 'e') and record.attempts == op[5] then
    return group, record
  end
  local ledger = ledger_at(group, rank_of(op[4]))
  ledger.late = ledger.late + 1
  group.topic.changed = true
  return nil
end

-- Also settles what went elsewhere meanwhile, if it still is unsettled.
local function ack(group, entry, attempt, stored)
  local ledger = ledger_at(group, rank_of(entry))
  local record = not group.settled[entry] and record_from(group, entry, stored) or nil
  if not record or (record.place ~= 'h' and record.place ~= 'e') or record.attempts ~= attempt then
    ledger.late = ledger.late + 1
    group.topic.changed = true
  end
  if record then
    ledger.acked = ledger.acked + 1
    settle(group, entry, record)
  end
end

-- ["ack", topic, group, [entry...], [attempt...]]: what a consumer has done, much at a time.
function OPS.ack(op)
  local group, entries, attempts = group_of(op[2], op[3]), op[4], op[5]
  if not group then
    return false
  end
  write_now()
  for first = 1, #entries, CHUNK do
    local last = math.min(first + CHUNK - 1, #entries)
    local stored = call('HMGET', group_key('m', group), unpack(entries, first, last))
    for i = first, last do
      ack(group, entries[i], attempts[i], stored[i - first + 1])
    end
  end
  return true
end

function OPS.nack(op)
  local group, record = in_hand(op)
  if not group then
    return 'late'
  end
  if op[7] then
    record.error = op[7]
  end
  return give_back(group, op[4], record, op[6] or nil)
end

-- ["await", topic, group, entry, attempt, error, delay, taken]: the signature it had is good no longer. The sender is told
-- to sign it anew, unless it has done so meanwhile; until that, or the delay, nobody is given it, and the attempt does
-- not count.
function OPS.await(op)
  local group, record = in_hand(op)
  if not group then
    return 'late'
  elseif has_expired(record) then
    expire(group, op[4], record)
    return 'expired'
  end
  record.error, record.attempts = op[6], record.attempts - 1
  if as_signed(group.topic, op[4], {}, op[8]) ~= op[8] then
    line_up(group, op[4], record)
    return 'back'
  end
  postpone(group, op[4], record, 's', NOW + op[7])
  ring('s', group.topic)
  return 'back'
end

-- ["resign", topic, [entry...], blob, [digest...]]: their sender has signed these anew; the signatures are the blobs
-- from there on, each for an envelope of that SHA-1.
function OPS.resign(op)
  local topic = topic_of(op[2])
  write_now()
  for i, entry in ipairs(topic and op[3] or {}) do
    local rank, id = split(entry)
    local fields = fields_at(stream_key(topic.name, rank), id)
    if fields[1] and redis.sha1hex(fields[6] or '') == op[5][i] then
      local anew = struct.pack('<d', server_ms()) .. given_blob(op[4] + i - 1)
      topic.books.signs = (topic.books.signs or 0) + create('HSET', P .. 'signs:' .. topic.name, entry, anew)
      topic.changed = true
      for _, group in pairs(topic.groups) do
        local stored = call('HGET', group_key('m', group), entry)
        if stored and #stored >= RECORD_BYTES and string.sub(stored, 1, 1) == 's' then
          line_up(group, entry, unpacked(stored))
        end
      end
    end
  end
  return true
end

function OPS.extend(op)
  local group, record = in_hand(op)
  if not group then
    return false
  end
  out_of_place(group, op[4], record)
  record.place = 'e'
  record.due_s = NOW + op[6]
  write_now()
  keep(group, op[4], record)
  create('ZADD', group_key('ext', group), record.due_s, op[4])
  return true
end

-- ["doubt", topic, group]: a consumer was given what nobody had published.
function OPS.doubt(op)
  local group = group_of(op[2], op[3])
  if group then
    doubt(group)
  end
  return true
end

function OPS.bury(op)
  local group, record = in_hand(op)
  if not group then
    return false
  end
  record.error = op[6]
  bury(group, op[4], record)
  doubt(group) -- it may never have been counted
  return true
end
