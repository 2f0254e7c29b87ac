-- Writes that can wait until something reads what they change are gathered, so that many entries share one command.

local gathered, gathered_in_order = {}, {}
local CHUNK = 1000 -- arguments of one command

-- The list to which a command on a key gathers its arguments; `group` is the consumer group for XACK.
local function later(command, key, group)
  local by_key = gathered[command]
  if not by_key then
    by_key = {}
    gathered[command] = by_key
  end
  local name = group and key .. group or key
  local arguments = by_key[name]
  if not arguments then
    arguments = {command = command, key = key, group = group}
    by_key[name] = arguments
    gathered_in_order[#gathered_in_order + 1] = arguments
  end
  return arguments
end

local function write_later(command, key, argument, group)
  local arguments = later(command, key, group)
  arguments[#arguments + 1] = argument
end

local function write_pair_later(command, key, first, second)
  local arguments = later(command, key)
  local n = #arguments
  arguments[n + 1], arguments[n + 2] = first, second
end

local function write_now()
  if #gathered_in_order == 0 then
    return
  end
  local todo = gathered_in_order
  gathered, gathered_in_order = {}, {}
  for _, arguments in ipairs(todo) do
    created[arguments.key] = true
    for first = 1, #arguments, CHUNK do
      local last = math.min(first + CHUNK - 1, #arguments)
      if arguments.group then
        call(arguments.command, arguments.key, arguments.group, unpack(arguments, first, last))
      else
        call(arguments.command, arguments.key, unpack(arguments, first, last))
      end
    end
  end
end
