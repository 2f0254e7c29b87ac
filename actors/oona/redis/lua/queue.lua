-- How an entry moves within one group.

-- A field of no entry whose length makes Redis find the others by their hash, not by looking through a list.
local ANCHOR, ANCHORED = '', string.rep('.', 65)

-- A group's share of one stream: its rank, its key, the ledger, and the lists that gather what is acknowledged there,
-- what is acknowledged and deleted, and what is deleted.
local function lane_of(group, rank)
  local lane = group.lanes[rank]
  if not lane then
    local stream = stream_key(group.topic.name, rank)
    lane = {
      rank = rank, stream = stream, ledger = ledger_at(group, rank), acknowledged = list_of('XACK', stream, group.name),
      done_with = list_of('XACK', stream, group.name, 'XDEL'), deleted = list_of('XDEL', stream),
    }
    group.lanes[rank] = lane
  end
  return lane
end

-- The list that gathers the group's new records, by their entries.
local function records_of(group)
  local list = group.records
  if not list then
    list = list_of('HSET', group_key('m', group))
    group.records = list
  end
  return list
end

-- The list that gathers the entries whose records are to go.
local function forgotten_of(group)
  local list = group.forgotten
  if not list then
    list = list_of('HDEL', group_key('m', group))
    group.forgotten = list
  end
  return list
end

local function full(ledger, policy)
  return ledger.pending >= policy.capacity
end

local function urgent_full(ledger, policy)
  return ledger.pending >= policy.urgent_capacity
end

-- A message comes in; the caller has seen to it that there is room.
local function admit(group, entry, rank, message, marker)
  local ledger, topic = rank < FIRST_NORMAL and group.u or group.n, group.topic
  local pending = ledger.pending + 1
  ledger.published = ledger.published + 1
  ledger.pending = pending
  ledger.waiting = ledger.waiting + 1
  if pending > ledger.pending_max then
    ledger.pending_max = pending
  end
  if rank == REROUTED then
    ledger.rerouted = ledger.rerouted + 1
  end
  gather_pair(records_of(group), entry, marker)
  if message.expires_s < NEVER then
    write_pair_later('ZADD', group_key('exp', group), message.expires_s, entry)
  end
  load_changed(group, 1)
  topic.changed = true
  ring('m', topic)
end

local PLACES = {a = 'again', e = 'ext', p = 'post', s = 'post'}

-- Its books may be wrong: something was there that they never counted.
local function doubt(group)
  group.doubted = group.doubted or NOW
  group.topic.changed = true
end

local function wait_no_more(group, ledger)
  local waiting = ledger.waiting - 1
  ledger.waiting = waiting
  if waiting < 0 then
    doubt(group)
  end
end

local function out_of_place(group, entry, place, hand)
  if place == 'h' then
    out_of_hand(group, hand)
  elseif place ~= 'w' then
    write_later('ZREM', group_key(PLACES[place], group), entry)
  end
  if place == 'w' or place == 'a' then
    wait_no_more(group, ledger_at(group, rank_of(entry)))
  end
end

-- Free the entry's place, of whose record this is what counts; the caller has written down why.
local function free(group, lane, entry, place, shared, expires_s, hand)
  local topic, rank, ledger, id = group.topic, lane.rank, lane.ledger, string.sub(entry, 3)
  if rank >= FIRST_NORMAL and full(ledger, topic.policy) and topic.policy.overflow == 'wait' then
    ring('r', topic)
  end
  if place == 'h' then
    out_of_hand(group, hand)
  else
    out_of_place(group, entry, place, hand)
  end
  ledger.pending = ledger.pending - 1
  if rank == REROUTED then
    ledger.rerouted = ledger.rerouted - 1
  end
  if expires_s < NEVER then
    write_later('ZREM', group_key('exp', group), entry)
  end
  gather(forgotten_of(group), entry)
  group.settled[entry] = true
  if not shared then
    gather(lane.done_with, id)
    forget_signature(topic, entry)
  else
    gather(lane.acknowledged, id)
    if create('HINCRBY', P .. 'refs:' .. topic.name, entry, -1) <= 0 then
      call('HDEL', P .. 'refs:' .. topic.name, entry)
      gather(lane.deleted, id)
      forget_signature(topic, entry)
    end
  end
  load_changed(group, -1)
  topic.changed = true
end

local function settle(group, entry, record)
  free(group, lane_of(group, rank_of(entry)), entry, record.place, record.shared, record.expires_s, record.hand)
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

local function has_expired(record)
  return record.expires_s <= NOW
end

local function let_go(topic, letter_id)
  call('ZREM', P .. 'dead:' .. topic.name, letter_id)
  call('HDEL', P .. 'letter:' .. topic.name, letter_id)
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

-- What seldom happens to an entry.
local set_right, line_up, bury, postpone, give_back, held_in, holder_of
local keep

SELDOM[#SELDOM + 1] = function()

function keep(group, entry, record)
  create('HSET', group_key('m', group), entry, packed(record))
end

-- Entries that are still in this hand, each with its record.
function held_in(group, number)
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
function holder_of(group, number)
  local _, entries = hand_at(group, number)
  for _, entry in ipairs(entries) do
    local record = record_of(group, entry)
    if record and record.place == 'h' and record.hand == number then
      return record.holder
    end
  end
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
function set_right(group)
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

-- Once more to the head of its line.
function line_up(group, entry, record)
  local rank = rank_of(entry)
  out_of_place(group, entry, record.place, record.hand)
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

-- Its attempts are used up, or its frame can't be read: keep it among the dead letters.
function bury(group, entry, record)
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
function postpone(group, entry, record, place, due_s)
  out_of_place(group, entry, record.place, record.hand)
  record.place, record.due_s = place, due_s
  write_now()
  create('ZADD', group_key('post', group), record.due_s, entry)
  keep(group, entry, record)
end

-- Out of a consumer's hands: back in line, into its backoff, or to an end. `delay_s` nil is the policy's backoff.
function give_back(group, entry, record, delay_s)
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

end

function set_right(group)
  make_seldom()
  set_right(group)
end
