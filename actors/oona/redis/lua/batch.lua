-- One batch: executed once, in order, whatever becomes of the connection; the same number again gets the same answer.

local GENERATION, AFTER = header[3], header[6]
local reply_key, slot = P .. 'reply:' .. CLIENT, SEQ % 2
local blobs_key, other_blobs_key = reply_key .. ':' .. slot, reply_key .. ':' .. 1 - slot
local answered, last, old_blobs, other_blobs =
  unpack(call('HMGET', reply_key, slot, 'last', 'blobs' .. slot, 'blobs' .. 1 - slot))
if answered == tostring(SEQ) then
  local kept = call('HMGET', reply_key, 'head' .. slot, 'results' .. slot)
  return {kept[1], kept[2], unpack(old_blobs == '0' and {} or call('LRANGE', blobs_key, 0, -1))}
end

-- Every client comes by several times a second: after such a gap the server was away, or all of them.
local AWAY_S = 1.5
local REPLIES_KEPT_S = 600

-- Whoever is out of memory can't publish, but acknowledge and all else that makes room: once something was
-- written, a script may write.
local alive = redis.pcall('SET', P .. 'alive', NOW, 'KEEPTTL', 'GET')
local full_up = type(alive) == 'table' and alive.err
call('DEL', P .. 'nothing')
if type(alive) == 'string' and NOW - tonumber(alive) > AWAY_S then
  the_mode().resumed_s = NOW
end

local function head(status, generation)
  local m = the_mode()
  return cmsgpack.pack({status, generation, SEQ, m.active, m.cause, m.entered, m.depth, m.depth_max})
end

local generation = call('GET', P .. 'gen')
if not generation then
  generation = CLIENT .. '/' .. SEQ .. '/' .. exact(NOW)
  call('SET', P .. 'gen', generation)
end
if GENERATION ~= '' and GENERATION ~= generation then
  return {head('generation', generation), cmsgpack.pack({})}
elseif AFTER ~= 0 and tostring(AFTER) ~= last then
  return {head('order', generation), cmsgpack.pack({})}
end

local NEEDS_MEMORY = {publish = true, replay = true, resign = true}

local function execute(op)
  local kind = op[1]
  if full_up and NEEDS_MEMORY[kind] then
    for _ = 1, kind == 'publish' and #op[3] or 1 do
      results[#results + 1] = {'no_memory', full_up}
    end
  elseif kind == 'publish' then
    operation(kind)(op)
  else
    results[#results + 1] = operation(kind)(op)
  end
end

local worth_keeping = false
for _, op in ipairs(ops) do
  execute(op)
  worth_keeping = worth_keeping or not READS[op[1]]
end
write_now()
write_state()

-- In parts, as they are: one text of them all would take longer to make.
local function keep_answer(head_bytes, results_bytes)
  call('HSET', reply_key, slot, SEQ, 'head' .. slot, head_bytes, 'results' .. slot, results_bytes, 'blobs' .. slot, #blobs,
    'last', SEQ)
  if old_blobs and old_blobs ~= '0' then
    call('DEL', blobs_key) -- also where no others come in their place: they may be large
  end
  if #blobs > 0 then
    for first = 1, #blobs, CHUNK do
      call('RPUSH', blobs_key, unpack(blobs, first, math.min(first + CHUNK - 1, #blobs)))
    end
    call('EXPIRE', blobs_key, REPLIES_KEPT_S)
  end
end

local head_bytes, results_bytes = head('ok', generation), cmsgpack.pack(results)
if worth_keeping then
  keep_answer(head_bytes, results_bytes)
else
  call('HSET', reply_key, 'last', SEQ)
end
call('EXPIRE', reply_key, REPLIES_KEPT_S)
if other_blobs and other_blobs ~= '0' then
  call('EXPIRE', other_blobs_key, REPLIES_KEPT_S)
end
return {head_bytes, results_bytes, unpack(blobs)}
