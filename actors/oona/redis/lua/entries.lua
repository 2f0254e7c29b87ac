-- What an entry says of its message, and a group's record of it: what the group knows of it while it is unsettled.
-- place 'w' new in the stream, 'a' again in line, 'h' in hand, 'e' in hand and extended, 'p' postponed,
-- 's' postponed until its sender has signed it anew.
-- Of a new one nothing is kept but SOLE or SHARED: the rest is in the stream.

local SOLE, SHARED = '1', '+'

local PLAIN = '<dBdddd'  -- for `struct`
local PLAIN_BYTES = 41

-- The time in the entry's id. Entries that were added together mostly share it.
local ms_of
do
  local DASH, ID_AT, DIGITS = 45, 3, 13
  local last, last_ms

  function ms_of(entry)
    if string.byte(entry, ID_AT + DIGITS) ~= DASH then
      return tonumber(string.match(entry, ':(%d+)'))
    end
    local digits = string.sub(entry, ID_AT, ID_AT + DIGITS - 1)
    if digits ~= last then
      last, last_ms = digits, tonumber(digits)
    end
    return last_ms
  end
end

-- The event id that an entry's fields name; empty if that is no id. Who else writes here could name it by any bytes.
local id_of
do
  local ID_BYTES_MAX = 1024
  local TAILS = {'^[\194-\223][\128-\191]()', '^\224[\160-\191][\128-\191]()', '^[\225-\236\238\239][\128-\191][\128-\191]()',
    '^\237[\128-\159][\128-\191]()', '^\240[\144-\191][\128-\191][\128-\191]()',
    '^[\241-\243][\128-\191][\128-\191][\128-\191]()', '^\244[\128-\143][\128-\191][\128-\191]()'}

  -- Whether it is UTF-8, given where its first byte beyond ASCII is.
  local function is_text(bytes, at)
    while at do
      local after
      for _, tail in ipairs(TAILS) do
        after = after or string.match(string.sub(bytes, at, at + 3), tail)
      end
      if not after then
        return false
      end
      at = string.find(bytes, '[\128-\255]', at + after - 1)
    end
    return true
  end

  function id_of(fields)
    local id = fields[2] or ''
    local beyond = string.find(id, '[\128-\255]')
    return #id <= ID_BYTES_MAX and (not beyond or is_text(id, beyond)) and id or ''
  end
end

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
    local number, priority, published_s, expires_s, taken_ms, entered_s = struct.unpack(PLAIN, plain)
    if number >= 0 and number < RANK_SPAN and number % 1 == 0 and RANK_OF[priority]
      and published_s > -SECONDS_MAX and published_s < SECONDS_MAX and expires_s == expires_s
      and taken_ms >= 0 and taken_ms < MS_MAX and taken_ms % 1 == 0
      and entered_s > -SECONDS_MAX and entered_s < SECONDS_MAX then
      return number, priority, published_s, expires_s, taken_ms, entered_s
    end
    return mended(number, priority, published_s, expires_s, taken_ms, entered_s)
  end
end

-- When the server took a message, and its signature: as its sender signed it last. What an entry says of its time
-- is not signed; it came no earlier than its own id.
local function as_signed(topic, entry, fields, taken_ms)
  local signs = topic.books.signs
  local anew = signs and signs > 0 and call('HGET', P .. 'signs:' .. topic.name, entry)
  if anew then
    return (struct.unpack('<d', anew)), string.sub(anew, 9)
  end
  local added_ms = ms_of(entry)
  return taken_ms > added_ms and taken_ms or added_ms, fields[8]
end

-- Nobody will be given this entry any more.
local function forget_signature(topic, entry)
  local signs = topic.books.signs
  if signs and signs > 0 then
    topic.books.signs = signs - call('HDEL', P .. 'signs:' .. topic.name, entry)
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

local RECORD_HEAD = '<c1c1I4ddddd'
local RECORD, RECORD_BYTES = RECORD_HEAD .. 'I2c0I2c0', 50 -- the latter with empty texts

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

local function add(stream, message)
  local plain = struct.pack(PLAIN, message.number, message.priority, message.published_s, message.expires_s,
    message.taken_ms or server_ms(), NOW)
  created[stream] = true
  if message.signature == '' then
    return call('XADD', stream, '*', 'id', message.id, 'plain', plain, 'envelope', message.envelope)
  end
  return call('XADD', stream, '*', 'id', message.id, 'plain', plain, 'envelope', message.envelope, 'signature',
    message.signature)
end
