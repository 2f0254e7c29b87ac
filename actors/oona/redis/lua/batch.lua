-- One batch: executed once, in order, whatever becomes of the connection; the same number again gets the same answer.

local reply_key, slot = P .. 'reply:' .. CLIENT, SEQ % 2
local answered, last = unpack(call('HMGET', reply_key, slot, 'last'))
local number_at_front = answered and string.match(answered, '^(%d+)\n')
if number_at_front == tostring(SEQ) then
  return cmsgpack.unpack(string.sub(answered, #number_at_front + 2))
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
local results, worth_keeping = {}, false
for i, op in ipairs(ops) do
  if full_up and NEEDS_MEMORY[op[1]] then
    results[i] = {'no_memory', full_up}
  else
    results[i] = OPS[op[1]](op)
  end
  worth_keeping = worth_keeping or not READS[op[1]]
end
write_now()
write_state()
local answer = {head('ok', generation), cmsgpack.pack(results), unpack(blobs)}
if worth_keeping then
  call('HSET', reply_key, slot, SEQ .. '\n' .. cmsgpack.pack(answer), 'last', SEQ)
else
  call('HSET', reply_key, 'last', SEQ)
end
call('EXPIRE', reply_key, REPLIES_KEPT_S)
return answer
