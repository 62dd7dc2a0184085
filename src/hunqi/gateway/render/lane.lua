-- Decides for each request of a host which lane it is in. One state for each host and worker; the plan is its alone.
-- The number of a user is the one of hunqi.gateway.lanes.user_number.

local band, bxor, lshift, rshift, tobit = bit.band, bit.bxor, bit.lshift, bit.rshift, bit.tobit
local byte, find, sub, format = string.byte, string.find, string.sub, string.format

local OURS, ASK = "hunqi", "x-hunqi-ask"
local ALL, LONGEST, ID_BYTES = 10000, 4096, 16
local plan
local random = io.open("/dev/urandom", "rb")

local function times(a, b)
  return tobit(band(a, 0xffff) * b + lshift(tobit(rshift(a, 16) * b), 16))
end

local function hashed(state, text)
  for i = 1, #text do
    state = bxor(state, byte(text, i))
    state = tobit(lshift(state, 24) + state * 403)
  end
  return state
end

local function number_of(start, text)
  if #text > LONGEST then
    text = sub(text, 1, LONGEST / 2) .. sub(text, -LONGEST / 2)
  end
  local h = hashed(start, text)
  h = times(bxor(h, rshift(h, 16)), 0x85ebca6b)
  h = times(bxor(h, rshift(h, 13)), 0xc2b2ae35)
  h = bxor(h, rshift(h, 16))
  return (h < 0 and h + 4294967296 or h) % ALL
end

local function new_user(headers)
  local bytes = random and random:read(ID_BYTES)
  if not bytes then
    return headers:get("x-request-id") or "nobody"
  end
  local text = bytes:gsub(".", function(each) return format("%02x", byte(each)) end)
  return text
end

-- One value of a cookie; a client may send several headers, and HTTP/2 several crumbs.
local function cookie(headers, name)
  for at = 0, headers:getNumValues("cookie") - 1 do
    local text = headers:getAtIndex("cookie", at)
    local from = 1
    while true do
      local first, last = find(text, name .. "=", from, true)
      if not first then break end
      if first == 1 or find(sub(text, first - 1, first - 1), "[; ,]") then
        local stop = find(text, ";", last + 1, true) or #text + 1
        if stop > last + 1 then return sub(text, last + 1, stop - 1) end
      end
      from = last + 1
    end
  end
end

-- An address as groups of 16 bits: two of IPv4, eight of IPv6.
local function groups(address)
  local a, b, c, d = address:match("(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  if a then
    local front = address:match("^(.-)%d+%.%d+%.%d+%.%d+$"):lower()
    if front == "" or front == "::ffff:" then return { a * 256 + b, c * 256 + d } end
    address = front .. format("%x:%x", a * 256 + b, c * 256 + d)
  end
  local head, tail = address:match("^(.-)::(.*)$")
  local found, rest = {}, {}
  for each in (head or address):gmatch("%x+") do found[#found + 1] = tonumber(each, 16) end
  for each in (tail or ""):gmatch("%x+") do rest[#rest + 1] = tonumber(each, 16) end
  if head then
    for _ = #found + #rest + 1, 8 do found[#found + 1] = 0 end
  end
  for _, each in ipairs(rest) do found[#found + 1] = each end
  return #found == 8 and found or nil
end

local function within(address, network)
  if #address ~= #network.groups then return false end
  local left = network.length
  for at, group in ipairs(network.groups) do
    if left <= 0 then return true end
    local mask = left >= 16 and 0xffff or lshift(0xffff, 16 - left)
    if band(bxor(group, address[at]), mask, 0xffff) ~= 0 then return false end
    left = left - 16
  end
  return true
end

local function client(handle)
  local text = handle:streamInfo():downstreamRemoteAddress()
  return groups(text:match("^%[([^%]%%]*)") or text:match("^([%d.]+)") or "")
end

local function from_one_of(handle, sources)
  local address = client(handle)
  if not address then return false end
  for _, network in ipairs(sources) do
    if within(address, network) then return true end
  end
  return false
end

local function planned(handle)
  local lanes = handle:filterContext():get("lanes")
  for _, lane in ipairs(lanes) do
    lane.start = hashed(hashed(tobit(0x811c9dc5), lane.salt), "\0")
    for _, match in ipairs(lane.matches) do
      for _, network in ipairs(match.sources) do
        network.groups = groups(network.address)
      end
    end
  end
  return lanes
end

-- The user's id by the lane's key, and whether it was made just now.
local function user_of(headers, lane)
  local value
  if lane.kind == "cookie" then
    value = cookie(headers, lane.key)
  else
    value = headers:get(lane.key)
  end
  if value and value ~= "" then return value, false end
  return new_user(headers), lane.kind == "cookie"
end

-- Whether a match holds that needs no word of Envoy's; and which may hold, by what Envoy says.
local function matches(handle, lane, number)
  local ask = ""
  for _, match in ipairs(lane.matches) do
    if number < match.users and (#match.sources == 0 or from_one_of(handle, match.sources)) then
      if match.ask == "" then return true, "" end
      ask = ask .. match.ask
    end
  end
  return false, ask
end

local function issue(info, headers, names)
  local secure = headers:get("x-forwarded-proto") == "https" and "; Secure" or ""
  local at = 0
  for name, id in pairs(names) do
    at = at + 1
    local text = name .. "=" .. id .. "; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax" .. secure
    info:dynamicMetadata():set(OURS, "cookie" .. at, text)
  end
end

function envoy_on_request(handle)
  plan = plan or planned(handle)
  local headers = handle:headers()
  local issued, ask, changed = nil, "", headers:get(ASK) ~= nil
  for _, lane in ipairs(plan) do
    changed = changed or headers:get(lane.fact) ~= nil
    headers:remove(lane.fact)
    local user, fresh = issued and lane.kind == "cookie" and issued[lane.key], false
    if not user then user, fresh = user_of(headers, lane) end
    if fresh then
      issued = issued or {}
      issued[lane.key] = user
    end
    local number = number_of(lane.start, user)
    local inside, may = number < lane.weight, ""
    if not inside then inside, may = matches(handle, lane, number) end
    if inside then
      headers:replace(lane.fact, lane.name)
      changed = true
    end
    ask = ask .. may
  end
  if issued then issue(handle:streamInfo(), headers, issued) end
  if ask ~= "" then
    -- Conditions on headers, cookies and the query are routes of their own: Envoy tries them, once.
    headers:replace(ASK, ";" .. ask)
    handle:clearRouteCache()
    local found = handle:metadata():get("inside") or ""
    for _, lane in ipairs(plan) do
      if find(found, ";" .. lane.app .. ";", 1, true) then headers:replace(lane.fact, lane.name) end
    end
    changed = true
  end
  headers:remove(ASK)
  if changed then handle:clearRouteCache() end
end
