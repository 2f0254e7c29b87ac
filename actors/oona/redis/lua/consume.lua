-- What consumers take and what they say of it.

-- How many entries may be read at a time: an answer is bounded in blobs (unpack takes some 8,000) and bytes.
local BLOBS_MAX, BYTES_MAX, READ_MAX = 4000, 2 ^ 20, 64

-- The entries' names, and what the group knows of each: a marker, or false.
local function markers_of(group, rank, entries)
  local names, prefix = {}, entry_name(rank, '')
  for i = 1, #entries do
    names[i] = prefix .. entries[i][1]
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

function MAKE.take()

-- What the consumer is told of an entry that it is given.
local function show(taken, topic, entry, rank, fields, attempts, due_s, priority, published_s, taken_ms)
  local signed_ms, signature = as_signed(topic, entry, fields, taken_ms)
  taken[#taken + 1] = {
    topic.name, entry, id_of(fields), priority, rank < FIRST_NORMAL and 'urgent' or 'normal', attempts, published_s,
    due_s, blob_index(fields[6]), signature and blob_index(signature) or -1, signed_ms,
  }
end

-- Again in some hands.
local function hand_out(taken, group, entry, rank, record, fields, consumer)
  local ledger = ledger_at(group, rank)
  out_of_place(group, entry, record.place, record.hand)
  record.place = 'h'
  record.attempts = record.attempts + 1
  record.since_s = NOW
  record.due_s = NOW + group.topic.policy.ack_deadline_s
  record.holder = consumer
  local hand = open_hand(group, record.due_s)
  put(hand, entry)
  record.hand = hand.number
  gather_pair(records_of(group), entry, packed(record))
  ledger.delivered = ledger.delivered + 1
  if record.attempts > 1 then
    ledger.redelivered = ledger.redelivered + 1
  end
  group.topic.changed = true
  local _, priority, published_s, _, taken_ms = plain_of(fields)
  show(taken, group.topic, entry, rank, fields, record.attempts, record.due_s, priority, published_s, taken_ms)
end

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
          call('XCLAIM', stream, group.name, consumer, 0, id, 'JUSTID')
          hand_out(taken, group, entry, rank, record, fields, consumer)
        else
          lose(group, entry, record)
        end
      end
    end
    write_now()
  end
end

-- What was just read of a stream goes into the consumer's hands, for the first time.
local function hand_out_new(taken, group, rank, consumer, entries)
  local names, markers = markers_of(group, rank, entries)
  local topic, lane, records = group.topic, lane_of(group, rank), records_of(group)
  local ledger, due_s = lane.ledger, NOW + topic.policy.ack_deadline_s
  local hand
  for i, found in ipairs(entries) do
    local entry, marker, fields = names[i], markers[i], found[2]
    local number, priority, published_s, expires_s, taken_ms = plain_of(fields)
    if not marker then
      gather(lane.acknowledged, found[1]) -- settled while it waited, or not meant for this group
      strange.turn_out(topic, entry)
    elseif expires_s <= NOW then
      expire(group, entry, (new_record(fields, marker)))
    else
      hand = hand or open_hand(group, due_s)
      put(hand, entry)
      wait_no_more(group, ledger)
      gather_pair(records, entry, struct.pack(RECORD, 'h', marker == SHARED and SHARED or SOLE, 1, number, NOW,
        expires_s, due_s, hand.number, #consumer, consumer, 0, ''))
      ledger.delivered = ledger.delivered + 1
      show(taken, topic, entry, rank, fields, 1, due_s, priority, published_s, taken_ms)
    end
  end
  topic.changed = true
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
    if #entries > 0 then
      group.cursors[rank + 1] = entries[#entries][1]
      hand_out_new(taken, group, rank, consumer, entries)
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

-- Also settles what went elsewhere meanwhile, if it still is unsettled.
local function ack(group, entry, attempt, stored)
  local lane = lane_of(group, rank_of(entry))
  local ledger = lane.ledger
  if not stored or group.settled[entry] then
    ledger.late = ledger.late + 1
    group.topic.changed = true
    return
  end
  ledger.acked = ledger.acked + 1
  if #stored < RECORD_BYTES then
    ledger.late = ledger.late + 1
    settle(group, entry, record_from(group, entry, stored))
    return
  end
  local place, marker, attempts, _, _, expires_s, _, hand = struct.unpack(RECORD_HEAD, stored)
  if (place ~= 'h' and place ~= 'e') or attempts ~= attempt then
    ledger.late = ledger.late + 1
  end
  free(group, lane, entry, place, marker == SHARED, expires_s, hand)
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

end

MAKE.ack = MAKE.take

SELDOM[#SELDOM + 1] = function()

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
  out_of_place(group, op[4], record.place, record.hand)
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

end
