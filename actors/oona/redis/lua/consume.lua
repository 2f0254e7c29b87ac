-- What consumers take and what they say of it.

local function hold(group, entry, rank, record, consumer)
  local ledger = ledger_at(group, rank)
  out_of_place(group, entry, record)
  record.place = 'h'
  record.attempts = record.attempts + 1
  record.since_s = NOW
  record.due_s = NOW + group.topic.policy.ack_deadline_s
  record.holder = consumer
  write_pair_later('HSET', group_key('m', group), entry, packed(record))
  write_pair_later('ZADD', group_key('held', group), record.due_s, entry)
  ledger.delivered = ledger.delivered + 1
  if record.attempts > 1 then
    ledger.redelivered = ledger.redelivered + 1
  end
  group.topic.changed = true
end

local function hand_out(taken, group, entry, rank, record, fields, consumer)
  local plain = plain_of(fields)
  hold(group, entry, rank, record, consumer)
  taken[#taken + 1] = {
    group.topic.name, entry, fields[2], plain[2], rank < FIRST_NORMAL and 'urgent' or 'normal', record.attempts, plain[3],
    record.due_s, blob_index(fields[6]), blob_index(fields[8]), plain[5],
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
        if fields[1] and is_text(fields[2]) then
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

local function markers_of(group, rank, entries)
  local names = {}
  for i, found in ipairs(entries) do
    names[i] = rank .. ':' .. found[1]
  end
  return #names > 0 and call('HMGET', group_key('m', group), unpack(names)) or {}
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
    local markers = markers_of(group, rank, entries)
    for i, found in ipairs(entries) do
      local id, marker = found[1], markers[i]
      local record = marker and new_record(found[2], marker)
      group.cursors[rank + 1] = id
      if not record then
        write_later('XACK', stream, id, group.name) -- settled while it waited, or not meant for this group
      elseif has_expired(record) then
        expire(group, rank .. ':' .. id, record)
      elseif not is_text(found[2][2]) then
        lose(group, rank .. ':' .. id, record)
      else
        hand_out(taken, group, rank .. ':' .. id, rank, record, found[2], consumer)
      end
    end
    if #entries < wanted then
      return
    end
  end
end

local function take_lane(taken, group, first_rank, last_rank, consumer, limit)
  if ledger_at(group, first_rank).waiting == 0 then
    return
  end
  local before = #taken
  for rank = first_rank, last_rank do
    take_again(taken, group, rank, consumer, limit)
    take_new(taken, group, rank, consumer, limit)
  end
  if #taken == before and limit > before and room_for(1, group.topic) > 0 and ledger_at(group, first_rank).waiting > 0 then
    lose_what_is_gone(group)
  end
end

-- False: this consumer is not, or no longer, a member of one of the groups; it has to join again.
function OPS.take(op)
  local group_name, consumer, names, taken, groups = op[2], op[3], op[4], {}, {}
  write_now()
  for _, name in ipairs(names) do
    local group = group_of(name, group_name)
    if not group or call('HEXISTS', group_key('c', group), consumer) == 0 then
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
  return taken
end

local prefetched = {}

-- Acknowledgements mostly come many in a row: what they need is read at once.
local function prefetch(ops, first)
  local entries, op = {}, ops[first]
  for i = first, math.min(first + 999, #ops) do
    local each = ops[i]
    if each[1] ~= 'ack' or each[2] ~= op[2] or each[3] ~= op[3] then
      break
    end
    entries[#entries + 1] = each[4]
  end
  local group = group_of(op[2], op[3])
  prefetched = {group = group, last = first + #entries - 1, stored = {}}
  if group then
    write_now()
    for i, stored in ipairs(call('HMGET', group_key('m', group), unpack(entries))) do
      prefetched.stored[entries[i]] = stored
    end
  end
end

local function prefetched_record(group, entry)
  if prefetched.group ~= group then
    return record_of(group, entry)
  elseif settled_now[group_key('m', group) .. entry] then
    return nil
  end
  return record_from(group, entry, prefetched.stored[entry])
end

-- The group and the record of an entry in these hands; nil and what there is of it if it is in others, or settled.
local function in_hand(op)
  local group = group_of(op[2], op[3])
  if not group then
    return nil
  end
  local record = prefetched_record(group, op[4])
  if record and (record.place == 'h' or record.place == 'e') and record.attempts == op[5] then
    return group, record
  end
  local ledger = ledger_at(group, rank_of(op[4]))
  ledger.late = ledger.late + 1
  group.topic.changed = true
  return nil, record, group
end

-- Also settles what went elsewhere meanwhile, if it still is unsettled.
function OPS.ack(op)
  local group, record, others_group = in_hand(op)
  group = group or others_group
  if not record then
    return false
  end
  local ledger = ledger_at(group, rank_of(op[4]))
  ledger.acked = ledger.acked + 1
  settle(group, op[4], record)
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

function OPS.bury(op)
  local group, record = in_hand(op)
  if not group then
    return false
  end
  record.error = op[6]
  bury(group, op[4], record)
  return true
end
