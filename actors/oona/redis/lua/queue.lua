-- How an entry moves within one group. A record is what the group knows of an entry while it is unsettled:
-- place 'w' new in the stream, 'a' again in line, 'h' in hand, 'e' in hand and extended, 'p' postponed,
-- 's' postponed until its sender has signed it anew.
-- Of a new one nothing is kept but SOLE or SHARED: the rest is in the stream.

local SOLE, SHARED = '1', '+'

-- A field of no entry whose length makes Redis find the others by their hash, not by looking through a list.
local ANCHOR, ANCHORED = '', string.rep('.', 65)

-- Empty if somebody deleted the entry past these scripts.
local function fields_at(stream, id)
  local found = call('XRANGE', stream, id, id)[1]
  return found and found[2] or {}
end

-- Publication number, priority, published_s, expires_s (NEVER), taken_ms, entered_s; where something stands that can't
-- be, because who else writes here put it there, it is as if nothing did.
local plain_of
do
  local SECONDS_MAX, MS_MAX = 1e12, 1e15 -- NaN is not below it either

  local function mended(number, priority, published_s, expires_s, taken_ms, entered_s)
    return number >= 0 and number < RANK_SPAN and math.floor(number) or 0,
      RANK_OF[priority] and priority or 1,
      math.abs(published_s) < SECONDS_MAX and published_s or NOW,
      expires_s == expires_s and expires_s or NEVER,
      taken_ms >= 0 and taken_ms < MS_MAX and math.floor(taken_ms) or 0,
      math.abs(entered_s) < SECONDS_MAX and entered_s or NOW
  end

  function plain_of(fields)
    local plain = fields[4]
    if not plain or #plain ~= PLAIN_BYTES then
      return 0, 1, NOW, NEVER, 0, NOW
    end
    return mended(struct.unpack(PLAIN, plain))
  end
end

-- When the server took a message, and its signature: as its sender signed it last. What an entry says of its time
-- is not signed; it came no earlier than its own id.
local function as_signed(topic, entry, fields, taken_ms)
  local anew = (topic.books.signs or 0) > 0 and call('HGET', P .. 'signs:' .. topic.name, entry)
  if anew then
    return (struct.unpack('<d', anew)), string.sub(anew, 9)
  end
  return math.max(taken_ms, tonumber(string.match(entry, ':(%d+)'))), fields[8]
end

-- Nobody will be given this entry any more.
local function delete_entry(topic, stream, entry, id)
  write_later('XDEL', stream, id)
  if (topic.books.signs or 0) > 0 then
    topic.books.signs = topic.books.signs - call('HDEL', P .. 'signs:' .. topic.name, entry)
  end
end

-- The record of an entry that nobody has been given yet, and what its fields say of the message: priority,
-- published_s, taken_ms. Fields lie as `add` wrote them.
local function new_record(fields, marker)
  local number, priority, published_s, expires_s, taken_ms, entered_s = plain_of(fields)
  local record = {
    place = 'w', attempts = 0, holder = '', error = '', shared = marker == SHARED, number = number,
    since_s = entered_s, expires_s = expires_s, due_s = 0, hand = 0,
  }
  return record, priority, published_s, taken_ms
end

local RECORD, RECORD_BYTES = '<c1c1I4dddddI2c0I2c0', 50 -- the latter with empty texts

local function packed(r)
  return struct.pack(RECORD, r.place, r.shared and SHARED or SOLE, r.attempts, r.number, r.since_s, r.expires_s,
    r.due_s, r.hand, #r.holder, r.holder, #r.error, r.error)
end

local function unpacked(stored)
  local place, marker, attempts, number, since_s, expires_s, due_s, hand, holder, error =
    struct.unpack(RECORD, stored)
  return {
    place = place, attempts = attempts, holder = holder, error = error, shared = marker == SHARED, number = number,
    since_s = since_s, expires_s = expires_s, due_s = due_s, hand = hand,
  }
end

local function record_from(group, entry, stored)
  if not stored then
    return nil
  elseif #stored >= RECORD_BYTES then
    return unpacked(stored)
  end
  local rank, id = split(entry)
  return (new_record(fields_at(stream_key(group.topic.name, rank), id), stored))
end

local function record_of(group, entry)
  if group.settled[entry] then
    return nil
  end
  return record_from(group, entry, call('HGET', group_key('m', group), entry))
end

-- Entries that are still in this hand, each with its record.
local function held_in(group, number)
  local _, entries = hand_at(group, number)
  local list = {}
  for _, entry in ipairs(entries) do
    local record = record_of(group, entry)
    if record and record.place == 'h' and record.hand == number then
      list[#list + 1] = {entry, record}
    end
  end
  return list
end

-- Whose hand it is; nil if nothing is left in it.
local function holder_of(group, number)
  local _, entries = hand_at(group, number)
  for _, entry in ipairs(entries) do
    local record = record_of(group, entry)
    if record and record.place == 'h' and record.hand == number then
      return record.holder
    end
  end
end

local function keep(group, entry, record)
  create('HSET', group_key('m', group), entry, packed(record))
end

local function full(ledger, policy)
  return ledger.pending >= policy.capacity
end

local function urgent_full(ledger, policy)
  return ledger.pending >= policy.urgent_capacity
end

-- A message comes in; the caller has seen to it that there is room.
local function admit(group, entry, rank, message, marker)
  local ledger = ledger_at(group, rank)
  ledger.published = ledger.published + 1
  ledger.pending = ledger.pending + 1
  ledger.waiting = ledger.waiting + 1
  if ledger.pending > ledger.pending_max then
    ledger.pending_max = ledger.pending
  end
  if rank == REROUTED then
    ledger.rerouted = ledger.rerouted + 1
  end
  write_pair_later('HSET', group_key('m', group), entry, marker)
  if message.expires_s < NEVER then
    write_pair_later('ZADD', group_key('exp', group), message.expires_s, entry)
  end
  load_changed(group, 1)
  group.topic.changed = true
  ring('m', group.topic)
end

local PLACES = {a = 'again', e = 'ext', p = 'post', s = 'post'}

-- Its books may be wrong: something was there that they never counted.
local function doubt(group)
  group.doubted = group.doubted or NOW
  group.topic.changed = true
end

local function out_of_place(group, entry, record)
  local place = record.place
  if place == 'h' then
    out_of_hand(group, record.hand)
  elseif place ~= 'w' then
    write_later('ZREM', group_key(PLACES[place], group), entry)
  end
  if place == 'w' or place == 'a' then
    local ledger = ledger_at(group, rank_of(entry))
    ledger.waiting = ledger.waiting - 1
    if ledger.waiting < 0 then
      doubt(group)
    end
  end
end

-- Free the entry's place; the caller has written down why.
local function settle(group, entry, record)
  local topic = group.topic
  local rank, id = split(entry)
  local ledger = ledger_at(group, rank)
  if rank >= FIRST_NORMAL and topic.policy.overflow == 'wait' and full(ledger, topic.policy) then
    ring('r', topic)
  end
  out_of_place(group, entry, record)
  ledger.pending = ledger.pending - 1
  if rank == REROUTED then
    ledger.rerouted = ledger.rerouted - 1
  end
  if record.expires_s < NEVER then
    write_later('ZREM', group_key('exp', group), entry)
  end
  local stream = stream_key(topic.name, rank)
  write_later('HDEL', group_key('m', group), entry)
  group.settled[entry] = true
  acknowledge_later(stream, group, id)
  if not record.shared then
    delete_entry(topic, stream, entry, id)
  elseif create('HINCRBY', P .. 'refs:' .. topic.name, entry, -1) <= 0 then
    call('HDEL', P .. 'refs:' .. topic.name, entry)
    delete_entry(topic, stream, entry, id)
  end
  load_changed(group, -1)
  topic.changed = true
end

local function expire(group, entry, record)
  local ledger = ledger_at(group, rank_of(entry))
  ledger.expired = ledger.expired + 1
  settle(group, entry, record)
end

-- Its entry was deleted past these scripts: there is nothing that could be delivered.
local function lose(group, entry, record)
  local ledger = ledger_at(group, rank_of(entry))
  ledger.dropped = ledger.dropped + 1
  settle(group, entry, record)
end

-- The ledger of a lane goes by what was counted. What somebody put in past these scripts came in uncounted, and what
-- they took out was dropped.
local function correct(group, ledger, counted)
  local over = counted.pending - ledger.pending
  if over ~= 0 or counted.waiting ~= ledger.waiting then
    ledger.published = ledger.published + math.max(0, over)
    ledger.dropped = ledger.dropped + math.max(0, -over)
    ledger.pending, ledger.waiting, ledger.rerouted = counted.pending, counted.waiting, counted.rerouted
    load_changed(group, over)
    group.topic.changed = true
    ring('m', group.topic)
  end
end

-- Lose what is gone, and have the books say what is there.
local function set_right(group)
  write_now()
  local urgent, normal = {pending = 0, waiting = 0, rerouted = 0}, {pending = 0, waiting = 0, rerouted = 0}
  local stored = call('HGETALL', group_key('m', group))
  for i = 1, #stored, 2 do
    local entry = stored[i]
    if entry ~= ANCHOR then
      local rank, id = split(entry)
      local record = record_from(group, entry, stored[i + 1])
      local idle = record.place ~= 'h' and record.place ~= 'e'
      if idle and not fields_at(stream_key(group.topic.name, rank), id)[1] then
        lose(group, entry, record)
      else
        local counted = rank < FIRST_NORMAL and urgent or normal
        counted.pending = counted.pending + 1
        counted.waiting = counted.waiting + ((record.place == 'w' or record.place == 'a') and 1 or 0)
        counted.rerouted = counted.rerouted + (rank == REROUTED and 1 or 0)
      end
    end
  end
  write_now()
  correct(group, group.u, urgent)
  correct(group, group.n, normal)
  if group.doubted then
    group.doubted = nil
    group.topic.changed = true
  end
end

local function has_expired(record)
  return record.expires_s <= NOW
end

-- Once more to the head of its line.
local function line_up(group, entry, record)
  local rank = split(entry)
  out_of_place(group, entry, record)
  record.place = 'a'
  record.since_s = NOW
  local ledger = ledger_at(group, rank)
  ledger.waiting = ledger.waiting + 1
  write_now()
  create('ZADD', group_key('again', group), rank * RANK_SPAN + record.number, entry)
  keep(group, entry, record)
  group.topic.changed = true
  ring('m', group.topic)
end

local function let_go(topic, letter_id)
  call('ZREM', P .. 'dead:' .. topic.name, letter_id)
  call('HDEL', P .. 'letter:' .. topic.name, letter_id)
end

-- Its attempts are used up, or its frame can't be read: keep it among the dead letters.
local function bury(group, entry, record)
  local topic = group.topic
  local rank, id = split(entry)
  local ledger = ledger_at(group, rank)
  local fields = fields_at(stream_key(topic.name, rank), id)
  local _, priority, _, _, first_taken_ms = plain_of(fields)
  local taken_ms, signature = as_signed(topic, entry, fields, first_taken_ms)
  local event_id = id_of(fields)
  local letter_id = topic.name .. '/' .. group.name .. '/' .. event_id
  local dead, letters = P .. 'dead:' .. topic.name, P .. 'letter:' .. topic.name
  ledger.dead_lettered = ledger.dead_lettered + 1
  if call('HEXISTS', letters, letter_id) == 1 then
    let_go(topic, letter_id)
    topic.books.let_go = topic.books.let_go + 1
  end
  topic.books.letter_number = topic.books.letter_number + 1
  create('ZADD', dead, topic.books.letter_number, letter_id)
  create('HSET', letters, letter_id, cmsgpack.pack({
    group = group.name, id = event_id, priority = priority, attempts = record.attempts, error = record.error,
    died_s = NOW, taken_ms = taken_ms, envelope = fields[6] or '', signature = signature or '',
  }))
  if call('ZCARD', dead) > topic.policy.dead_letters_max then
    let_go(topic, call('ZRANGE', dead, 0, 0)[1])
    topic.books.let_go = topic.books.let_go + 1
  end
  settle(group, entry, record)
end

-- Nobody is given it until that time.
local function postpone(group, entry, record, place, due_s)
  out_of_place(group, entry, record)
  record.place, record.due_s = place, due_s
  write_now()
  create('ZADD', group_key('post', group), record.due_s, entry)
  keep(group, entry, record)
end

-- Out of a consumer's hands: back in line, into its backoff, or to an end. `delay_s` nil is the policy's backoff.
local function give_back(group, entry, record, delay_s)
  local policy = group.topic.policy
  if has_expired(record) then
    expire(group, entry, record)
    return 'expired'
  end
  if record.attempts >= policy.attempts_max then
    bury(group, entry, record)
    return 'dead'
  end
  if delay_s == 0 then
    line_up(group, entry, record)
    return 'back'
  end
  local backoff_s = policy.backoff_s[math.min(record.attempts, #policy.backoff_s)]
  postpone(group, entry, record, 'p', NOW + (delay_s or backoff_s))
  return 'back'
end

-- The first entry of a stream that this group has not been given yet: its name and record, or nil.
local function head_of(group, rank)
  local stream, from = stream_key(group.topic.name, rank), group.cursors[rank + 1]
  while true do
    local entries = call('XRANGE', stream, '(' .. from, '+', 'COUNT', 16)
    for _, found in ipairs(entries) do
      local entry = entry_name(rank, found[1])
      local marker = call('HGET', group_key('m', group), entry)
      if marker then
        return entry, (new_record(found[2], marker))
      end
      from = found[1]
    end
    if #entries < 16 then
      return nil
    end
  end
end

local function again_head(group, rank)
  local from, to = rank * RANK_SPAN, '(' .. exact((rank + 1) * RANK_SPAN)
  return call('ZRANGEBYSCORE', group_key('again', group), from, to, 'LIMIT', 0, 1)[1]
end
