-- Every key that the bus touches. P is `esper:{<namespace>}:`; the braces keep a namespace in one hash slot.
--
--   P gen                 token of this state: another token means that the server lost its data
--   P kept                seconds that what is written here is kept, once that was said (`retire`)
--   P num                 number of the last publication
--   P mode                conservative mode and depth (hash)
--   P alive               when a client last came by; the first write of each batch finds out whether there is memory
--   P topics              names of the declared topics (set)
--   P reply:<client>      the client's last two batches, each with its number and answer, for a repeat (hash); what
--   P reply:<client>:<slot>  their answers named by index (list): <slot> is the number modulo two
--   P t:<topic>           policy, groups and books of a topic (hash)
--   P s:<topic>:<rank>    the messages themselves (stream); ranks 0 to 2 are the urgent lane, 3 to 5 the normal one
--   P refs:<topic>        entry that several groups share -> those that have not settled it (hash); at none it is deleted
--   P seen:<topic>        event ids in the window, the oldest first (list)
--   P ids:<topic>         the same ids -> the names of their entries, settled or not (hash)
--   P signs:<topic>       entry -> when it was signed anew, by the server's clock, and that signature (hash)
--   P hist:<topic>        copies of the newest messages, for who comes late (stream, trimmed)
--   P dead:<topic>        ids of dead letters, oldest first (sorted set)
--   P letter:<topic>      dead letter by id (hash)
-- and for each group of a topic, as <topic>:<group>:
--   P g:                  ledgers and cursors (hash)
--   P c:                  consumer -> seconds of its last sign of life, and whose it is (hash)
--   P m:                  stream entry -> what the group knows of it while it is unsettled (hash)
--   P held:               hands, by deadline (sorted set); what is in them is in
--   P hand:               hand -> since when, and its entries; n<hand> -> how many are still in it (hash)
--   P ext:                entries in hand whose deadline was extended, by it (sorted set)
--   P post:               entries in their backoff or waiting for a signature, by its end (sorted set)
--   P again:              entries that wait once more, by rank and publication number (sorted set)
--   P exp:                entries with a time to live, by its end (sorted set)
-- P bell                  channel: `m <topic>` something came to wait, `r <topic>` room came free,
--                         `s <topic>` what its sender still keeps is wanted with a new signature
--
-- An entry is named `<rank>:<stream id>`. Its fields, in this order: id (event id), plain (PLAIN: publication number,
-- priority, published and expires in seconds, milliseconds by the server's clock when it first took the message,
-- when it came into this stream in seconds),
-- envelope, signature (left out if there is none).

local P = KEYS[1]
local NOBODY = '-'       -- consumer that stands in the pending lists for those who left
local RANK_SPAN = 2 ^ 48 -- publication numbers stay below it
local FIRST_NORMAL = 3
local RANKS = 6
local REROUTED = 2
local NEVER = math.huge   -- when something without a time to live expires
local LOWEST_URGENT = 4  -- priorities from CRITICAL on are urgent
local RANK_OF = {[5] = 0, [4] = 1, [3] = 3, [2] = 4, [1] = 5}

local call = redis.call
local created = {}

-- Commands that may make a key: it gets the namespace's time to live at the end of the batch.
local function create(command, key, ...)
  created[key] = true
  return call(command, key, ...)
end

local stream_keys = {}

local function stream_key(topic, rank)
  local keys = stream_keys[topic]
  if not keys then
    keys = {}
    for each = 0, RANKS - 1 do
      keys[each] = P .. 's:' .. topic .. ':' .. each
    end
    stream_keys[topic] = keys
  end
  return keys[rank]
end

local RANK_PREFIX = {}
for rank = 0, RANKS - 1 do
  RANK_PREFIX[rank] = rank .. ':'
end

local function entry_name(rank, id)
  return RANK_PREFIX[rank] .. id
end

local function split(entry)
  return string.byte(entry) - 48, string.sub(entry, 3)
end

local function rank_of(entry)
  return string.byte(entry) - 48
end

local function exact(number)
  return string.format('%.17g', number)
end
