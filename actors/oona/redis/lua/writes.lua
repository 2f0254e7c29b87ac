-- Writes that can wait until something reads what they change are gathered, so that many entries share one command.

local lists, waiting = {}, {} -- all lists, by command (and group) and key; those that hold something
local CHUNK = 1000 -- arguments of one command

-- The list to which a command on a key gathers its arguments, the same one all through the batch; `also` names a command
-- on the key with the same arguments.
local function list_of(command, key, group, also)
  local owner = group and (also or '') .. command .. ' ' .. group or command
  local by_key = lists[owner]
  if not by_key then
    by_key = {}
    lists[owner] = by_key
  end
  local list = by_key[key]
  if not list then
    list = {command = command, key = key, group = group, also = also, n = 0}
    by_key[key] = list
  end
  return list
end

local function gather(list, argument)
  local n = list.n + 1
  if n == 1 then
    waiting[#waiting + 1] = list
  end
  list.n = n
  list[n] = argument
end

local function gather_pair(list, first, second)
  local n = list.n + 2
  if n == 2 then
    waiting[#waiting + 1] = list
  end
  list.n = n
  list[n - 1], list[n] = first, second
end

local function write_later(command, key, argument)
  gather(list_of(command, key), argument)
end

local function write_pair_later(command, key, first, second)
  gather_pair(list_of(command, key), first, second)
end

local changed_hands = {} -- groups with hands that were opened or emptied since the last write
local write_hands        -- see hands.lua

local function write_now()
  if next(changed_hands) then
    write_hands()
  end
  if #waiting == 0 then
    return
  end
  local todo = waiting
  waiting = {}
  for _, list in ipairs(todo) do
    local count = list.n
    list.n = 0
    created[list.key] = true
    for first = 1, count, CHUNK do
      local last = math.min(first + CHUNK - 1, count)
      if list.group then
        call(list.command, list.key, list.group, unpack(list, first, last))
      else
        call(list.command, list.key, unpack(list, first, last))
      end
      if list.also then
        call(list.also, list.key, unpack(list, first, last))
      end
    end
  end
end
