-- Writes that can wait until something reads what they change are gathered, so that many entries share one command.

local gathered, gathered_in_order = {}, {}
local CHUNK = 1000 -- arguments of one command

-- The list to which a command on a key gathers its arguments; `owner` is the command, or for XACK the group.
local function later(command, key, owner, group)
  local by_key = gathered[owner]
  if not by_key then
    by_key = {}
    gathered[owner] = by_key
  end
  local arguments = by_key[key]
  if not arguments then
    arguments = {command = command, key = key, group = group, n = 0}
    by_key[key] = arguments
    gathered_in_order[#gathered_in_order + 1] = arguments
  end
  return arguments
end

local function write_later(command, key, argument)
  local arguments = later(command, key, command)
  local n = arguments.n + 1
  arguments.n = n
  arguments[n] = argument
end

local function acknowledge_later(key, group, id)
  local arguments = later('XACK', key, group, group.name)
  local n = arguments.n + 1
  arguments.n = n
  arguments[n] = id
end

local function write_pair_later(command, key, first, second)
  local arguments = later(command, key, command)
  local n = arguments.n
  arguments.n = n + 2
  arguments[n + 1], arguments[n + 2] = first, second
end

local changed_hands = {} -- groups with hands that were opened or emptied since the last write
local write_hands        -- see hands.lua

local function write_now()
  if next(changed_hands) then
    write_hands()
  end
  if #gathered_in_order == 0 then
    return
  end
  local todo = gathered_in_order
  gathered, gathered_in_order = {}, {}
  for _, arguments in ipairs(todo) do
    created[arguments.key] = true
    for first = 1, arguments.n, CHUNK do
      local last = math.min(first + CHUNK - 1, arguments.n)
      if arguments.group then
        call(arguments.command, arguments.key, arguments.group, unpack(arguments, first, last))
      else
        call(arguments.command, arguments.key, unpack(arguments, first, last))
      end
    end
  end
end
