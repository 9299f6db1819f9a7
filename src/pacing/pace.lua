-- Pacing of one account, in one atomic step. Says the same as src/core/{pacing,reservation,breaker,limit-search,fixed-limits}.ts,
-- which explain it; tests hold the two together. Numbers are kept with 17 digits, so that both calculate alike.
--
-- KEYS: account (hash), line (sorted set: waiter -> when its turn should be), fixed limits (hash; may be unused), requests on
--       their way (sorted set: number -> when it is taken to be lost), and in tests only: a key that holds the time.
-- ARGV: rules (JSON), call (JSON: op and its arguments). Answers JSON.
local rules, call = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
local ACCOUNT, LINE, FIXED, FLIGHT, CLOCK = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local MINUTE_MS = 60000
local NUMBERS = { 'bornMs', 'atMs', 'bytesPerToken', 'heard', 'seen', 'changedMs', 'cooldownUntilMs', 'failures',
  'openings', 'openUntilMs', 'probeUntilMs', 'waiting' }
local METER = { 'level', 'perMinute', 'limit', 'taken' }
local SEARCH = { 'concurrency', 'latencyMs', 'roundMs', 'roundAnswers', 'roundBytes', 'roundLatencyMs', 'roundFull',
  'priorRate', 'priorLatencyMs', 'holdUntilMs', 'halvedMs', 'windowMs', 'requests', 'tokens', 'beforeMs', 'beforeRequests',
  'beforeTokens', 'cutMs', 'measured', 'strikes' }
local UNBOUNDED = 1e15

local function clock()
  if CLOCK then return tonumber(redis.call('GET', CLOCK)) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local now = clock()

local function read(key)
  local flat, fields = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do fields[flat[i]] = tonumber(flat[i + 1]) end
  return fields
end

local function write(key, fields)
  local flat = {}
  for name, value in pairs(fields) do
    flat[#flat + 1] = name
    flat[#flat + 1] = string.format('%.17g', value)
  end
  redis.call('HSET', key, unpack(flat))
  redis.call('PEXPIRE', key, rules.idleMs)
end

-- The account ---------------------------------------------------------------------------------------------------------

local function open_meter(kind)
  local per_minute = call.start == 'search' and UNBOUNDED or kind.startPerMinute
  return { level = per_minute * rules.guessBurstMs / MINUTE_MS, perMinute = per_minute, limit = 0, taken = 0 }
end

local function open_search()
  local search = {}
  for _, name in ipairs(SEARCH) do search[name] = 0 end
  if call.start == 'search' then
    search.concurrency, search.roundMs, search.windowMs, search.beforeMs = rules.search.concurrencyStart, now, now, now
  end
  return search
end

local function load_account()
  local fields = read(ACCOUNT)
  local account = {}
  for _, name in ipairs(NUMBERS) do account[name] = fields[name] or 0 end
  if not fields.bornMs then
    account.bornMs, account.atMs, account.bytesPerToken = now, now, rules.bytesPerTokenStart
    account.requests, account.tokens = open_meter(rules.requests), open_meter(rules.tokens)
    account.search = open_search()
    redis.call('DEL', FLIGHT)
    return account
  end
  for _, kind in ipairs({ 'requests', 'tokens' }) do
    account[kind] = {}
    for _, name in ipairs(METER) do account[kind][name] = fields[kind .. '.' .. name] end
  end
  account.search = {}
  for _, name in ipairs(SEARCH) do account.search[name] = fields['search.' .. name] or 0 end
  return account
end

local function save_account(account)
  local fields = {}
  for _, name in ipairs(NUMBERS) do fields[name] = account[name] end
  for _, kind in ipairs({ 'requests', 'tokens' }) do
    for _, name in ipairs(METER) do fields[kind .. '.' .. name] = account[kind][name] end
  end
  for _, name in ipairs(SEARCH) do fields['search.' .. name] = account.search[name] end
  write(ACCOUNT, fields)
end

local function capacity_of(meter, kind)
  if meter.limit > 0 then return meter.limit * (1 - kind.cushionOfLimit) end
  return meter.perMinute * rules.guessBurstMs / MINUTE_MS
end

local function is_searched(meter, search)
  return meter.limit == 0 and search.concurrency > 0
end

local function searched_rate(meter, search, minutes)
  if meter.perMinute >= UNBOUNDED then return meter.perMinute end
  local creep = rules.search.creepPerMinute * math.min(1, meter.perMinute / rules.search.creepFullAt)
  return meter.perMinute * (1 + minutes * (search.measured > 0 and creep / search.measured or rules.search.leapPerMinute))
end

local function grown(meter, search, elapsed, kind)
  local minutes = math.min(elapsed, rules.growthMsMax) / MINUTE_MS
  if is_searched(meter, search) then return searched_rate(meter, search, minutes) end
  local base = meter.limit > 0 and meter.limit or math.min(meter.perMinute, kind.startPerMinute)
  local recovered = meter.perMinute + base * rules.recoveryPerMinute * minutes
  local ramped = math.max(kind.rampFromPerMinute, meter.perMinute * (1 + rules.rampPerMinute * minutes))
  local ceiling = meter.limit > 0 and meter.limit * rules.rateOfLimit or recovered
  return math.min(recovered, ramped, ceiling)
end

local function refill_meter(meter, search, elapsed, kind)
  local level = math.min(capacity_of(meter, kind), meter.level + meter.perMinute * elapsed / MINUTE_MS)
  if level < capacity_of(meter, kind) then meter.perMinute = grown(meter, search, elapsed, kind) end
  meter.level = level
end

local function refill(account)
  local elapsed = math.max(0, now - account.atMs)
  refill_meter(account.requests, account.search, elapsed, rules.requests)
  refill_meter(account.tokens, account.search, elapsed, rules.tokens)
  account.atMs = account.atMs + elapsed
end

local function estimate_tokens(inputs, bytes, ratio)
  return math.max(1, inputs, math.min(bytes, math.ceil(bytes / ratio * rules.estimateMargin)))
end

local function learn(meter, limit, level_known, kind)
  if not limit or limit <= 0 or limit == meter.limit then return false end
  local begun = meter.perMinute < UNBOUNDED and meter.perMinute or kind.startPerMinute
  meter.perMinute = math.min(limit * rules.rateOfLimit, math.max(begun, kind.rampFromPerMinute))
  local known = meter.limit > 0
  meter.limit = limit
  local capacity = capacity_of(meter, kind)
  meter.level = (not known and level_known) and capacity or math.min(meter.level, capacity)
  return true
end

local function hold_to(meter, remaining, taken_then, kind)
  if not remaining or meter.limit == 0 then return end
  local left = remaining - (meter.taken - taken_then) - meter.limit * kind.cushionOfLimit
  meter.level = math.min(meter.level, math.max(left, -meter.limit))
end

local function hear(account, taken, limits)
  local ours = taken.takenMs >= account.bornMs
  local requests_then, tokens_then = ours and taken.requestsTaken or 0, ours and taken.tokensTaken or 0
  local news = requests_then > account.seen or account.seen == 0
  local requests, tokens = account.requests, account.tokens

  local changed = learn(requests, limits.requestsLimit, news and limits.requestsRemaining, rules.requests)
  changed = learn(tokens, limits.tokensLimit, news and limits.tokensRemaining, rules.tokens) or changed
  if changed then account.changedMs = account.atMs end
  if news then
    hold_to(requests, limits.requestsRemaining, requests_then, rules.requests)
    hold_to(tokens, limits.tokensRemaining, tokens_then, rules.tokens)
    account.seen = requests_then
  end
  if requests.limit > 0 and tokens.limit > 0 then
    for _, name in ipairs(SEARCH) do account.search[name] = 0 end
  end
  account.heard = 1
end

-- The search for limits that nobody tells ----------------------------------------------------------------------------------

local function halve(search)
  search.priorRate, search.priorLatencyMs = 0, 0
  search.concurrency = math.max(1, math.floor(search.concurrency / 2))
  search.halvedMs, search.holdUntilMs = now, now + rules.search.holdMs
end

local function end_round(search, at)
  local full, rate = search.roundFull, search.roundBytes / math.max(1, at - search.roundMs)
  local latency = search.roundLatencyMs / search.roundAnswers
  search.roundAnswers, search.roundBytes, search.roundLatencyMs, search.roundFull, search.roundMs = 0, 0, 0, 0, at
  if full == 0 then
    search.priorRate, search.priorLatencyMs = 0, 0
    return
  end
  local slower = latency > search.priorLatencyMs * rules.search.slowerFactor
  if search.priorRate > 0 and slower and rate < search.priorRate * rules.search.moreFactor then return halve(search) end
  if at < search.holdUntilMs then return end
  search.concurrency = math.min(rules.search.concurrencyMax, search.concurrency * 2)
  search.priorRate, search.priorLatencyMs = rate, latency
end

local function search_answered(search, latency, bytes, tokens, at)
  if search.concurrency == 0 then return end
  local weight = rules.search.latencyWeight
  if at - search.windowMs >= rules.search.windowMs and search.requests >= rules.search.windowAnswers then
    search.beforeMs, search.beforeRequests, search.beforeTokens = search.windowMs, search.requests, search.tokens
    search.windowMs, search.requests, search.tokens = at, 0, 0
  end
  search.requests, search.tokens = search.requests + 1, search.tokens + tokens
  search.latencyMs = search.latencyMs == 0 and latency or search.latencyMs + weight * (latency - search.latencyMs)
  search.roundAnswers, search.roundBytes = search.roundAnswers + 1, search.roundBytes + bytes
  search.roundLatencyMs, search.strikes = search.roundLatencyMs + latency, 0
  if search.roundAnswers >= math.max(rules.search.roundAnswersMin, search.concurrency) then end_round(search, at) end
end

-- Answers with the function that makes the new rate, or nil, and with the factor of the wait.
local function search_refused(search, is_rated, taken_ms, at)
  local by = rules.search
  if search.concurrency == 0 or taken_ms <= search.cutMs then return nil, 1 end
  local accepted = { requests = search.requests + search.beforeRequests, tokens = search.tokens + search.beforeTokens }
  search.cutMs = at
  if accepted.requests == 0 then
    search.strikes = search.strikes + 1
    return nil, 2 ^ math.min(by.strikesMax, search.strikes - 1)
  end
  search.strikes = 0
  local elapsed, was_measured = at - search.beforeMs, search.measured > 0
  if is_rated and (elapsed < by.measureMs or accepted.requests < by.measureAnswers) then
    local factor = was_measured and by.soonFactor or by.cutFactor
    return function(_, per_minute) return math.max(1, per_minute * factor) end, 1
  end
  search.requests, search.tokens, search.beforeRequests, search.beforeTokens = 0, 0, 0, 0
  search.windowMs, search.beforeMs = at, at
  if is_rated then search.measured = math.min(by.measuredMax, search.measured + 1) end
  local floor = not was_measured and elapsed >= by.leapMs and by.guessFloor or by.cutFactor
  return function(kind, per_minute)
    local seen = accepted[kind] / math.max(elapsed, by.measureMs) * MINUTE_MS
    if not is_rated then return math.max(1, seen * by.cutFactor) end
    return math.max(1, math.min(per_minute, math.max(seen * by.keepFactor, per_minute * floor)))
  end, 1
end

local function in_flight(search)
  if search.concurrency == 0 then return 0 end
  redis.call('ZREMRANGEBYSCORE', FLIGHT, '-inf', now)
  return redis.call('ZCARD', FLIGHT)
end

local function flight_wait(search, flying, ahead)
  if search.concurrency == 0 then return 0, true end
  local missing = flying + ahead + 1 - search.concurrency
  local each = (search.latencyMs == 0 and rules.search.latencyStartMs or search.latencyMs) / search.concurrency
  return math.max(0, math.ceil(missing * each)), missing <= search.concurrency
end

local function depart(search, taken)
  if search.concurrency == 0 then return end
  redis.call('ZADD', FLIGHT, taken.sendMs + rules.search.flightMsMax, taken.requestsTaken)
  redis.call('PEXPIRE', FLIGHT, rules.idleMs)
end

local function land(account, taken)
  if account.search.concurrency > 0 and taken.takenMs >= account.bornMs then redis.call('ZREM', FLIGHT, taken.requestsTaken) end
end

-- Fixed limits of the credential -----------------------------------------------------------------------------------------

local function load_fixed()
  local rates = call.fixed
  if not rates then return nil end
  local fixed = read(FIXED)
  local minutes = fixed.atMs and math.max(0, now - fixed.atMs) / MINUTE_MS
  for _, kind in ipairs({ 'requests', 'tokens' }) do
    local rate = rates[kind]
    if not rate then fixed[kind] = 0
    elseif not minutes then fixed[kind] = rate.capacity
    else fixed[kind] = math.min(rate.capacity, fixed[kind] + rate.perMinute * minutes) end
  end
  fixed.atMs = math.max(fixed.atMs or now, now)
  fixed.waiting = fixed.waiting or 0
  return fixed
end

-- The line: who was told to come again, in the order of their turns. `holder.waiting` is the sum of their tokens. ---------------

local function ahead_of(holder, waiter)
  local before = redis.call('ZCARD', LINE)
  if before == 0 then
    holder.waiting = 0
    return 0, 0
  end
  local count = before - redis.call('ZREMRANGEBYSCORE', LINE, '-inf', now - rules.lineGraceMs)
  holder.waiting = holder.waiting * count / before
  if count == 0 then return 0, 0 end
  local places = waiter and redis.call('ZRANK', LINE, waiter) or count
  return places, holder.waiting * places / count
end

-- Who is in the line keeps the turn it was given, however often it asks; only a turn that has passed moves on.
local function join(holder, waiter, wait, come, tokens)
  if not waiter then return end
  if redis.call('ZSCORE', LINE, waiter) then
    redis.call('ZADD', LINE, 'GT', now + come, waiter)
  else
    redis.call('ZADD', LINE, now + wait, waiter)
    holder.waiting = holder.waiting + tokens
  end
  redis.call('PEXPIRE', LINE, rules.idleMs)
end

local function leave(holder, waiter, tokens)
  if waiter and redis.call('ZREM', LINE, waiter) == 1 then holder.waiting = math.max(0, holder.waiting - tokens) end
end

-- Taking ----------------------------------------------------------------------------------------------------------------

local function wait_for(level, capacity, per_minute, units, ahead)
  local missing = ahead + math.min(units, capacity) - level
  return missing <= 0 and 0 or math.ceil(missing / per_minute * MINUTE_MS)
end

local function take(account, fixed, tokens)
  for kind, units in pairs({ requests = 1, tokens = tokens }) do
    account[kind].level = account[kind].level - units
    account[kind].taken = account[kind].taken + units
    if fixed then fixed[kind] = fixed[kind] - units end
  end
end

-- The breaker -----------------------------------------------------------------------------------------------------------

local function grant_probe(account, fixed)
  local rate = call.fixed and call.fixed.requests
  local wait = rate and wait_for(fixed.requests, rate.capacity, rate.perMinute, 1, 0) or 0
  take(account, fixed, 1)
  account.probeUntilMs = now + wait + rules.probeMs
  return wait
end

local function pass_gate(account, fixed)
  if account.openUntilMs == 0 then return nil end
  if now < account.openUntilMs then return { go = false, because = 'breaker', waitMs = account.openUntilMs - now } end
  if now < account.probeUntilMs then return { go = false, because = 'probe_in_flight', waitMs = rules.retryMs } end
  return { go = false, because = 'probe', waitMs = grant_probe(account, fixed) }
end

local function reopen(account)
  account.openUntilMs = now + math.min(rules.openMsMax, rules.openMs * 2 ^ math.min(account.openings, 30))
  account.openings = account.openings + 1
  account.probeUntilMs = 0
  return account.openUntilMs - now
end

local function close(account)
  account.failures, account.openings, account.openUntilMs = 0, 0, 0
end

-- The calls -------------------------------------------------------------------------------------------------------------

local function is_overruled(kind, account)
  return call.stated and call.stated[kind] and account[kind].limit == 0 and account.changedMs == 0
end

local function wait_of(kind, account, fixed, units, ahead)
  local meter, rate = account[kind], call.fixed and call.fixed[kind]
  local shared = is_overruled(kind, account) and 0 or wait_for(meter.level, capacity_of(meter, rules[kind]), meter.perMinute, units, ahead)
  return math.max(shared, rate and wait_for(fixed[kind], rate.capacity, rate.perMinute, units, ahead) or 0)
end

local calls = {}

function calls.reserve(account, fixed)
  local gate = pass_gate(account, fixed)
  if gate then return gate end

  local holder = fixed or account
  local places, tokens_ahead = ahead_of(holder, call.waiter)
  local tokens = estimate_tokens(call.inputs, call.bytes, account.bytesPerToken)
  local cooldown = math.max(0, account.cooldownUntilMs - now)
  local flying, free = in_flight(account.search), is_overruled('requests', account)
  local requests_wait = wait_of('requests', account, fixed, 1, places)
  local rates_wait = math.max(cooldown, requests_wait, wait_of('tokens', account, fixed, tokens, tokens_ahead))
  local fly_wait, may_book = flight_wait(account.search, flying, places)
  if free then fly_wait, may_book = 0, true end
  local wait = math.max(rates_wait, fly_wait)
  if fly_wait > rates_wait then account.search.roundFull = 1 end

  if not may_book and wait <= rules.bookMs then
    local latest = account.heard == 0 and rules.search.unheardComeMs or rules.bookMs
    local come = math.min(latest, math.max(rules.search.comeMsMin, wait))
    join(holder, call.waiter, wait, come, tokens)
    return { go = false, because = 'in_flight', waitMs = come }
  end
  if wait > rules.bookMs then
    local because = wait == cooldown and 'cooldown' or wait == requests_wait and 'requests' or wait == fly_wait and 'in_flight' or 'tokens'
    local come = wait
    if because ~= 'cooldown' then
      come = math.floor(math.min(wait - rules.bookMs / 2, math.max(rules.bookMs, wait * rules.comeBackAfter)))
    end
    if account.heard == 0 then come = math.min(come, rules.bookMs) end
    join(holder, call.waiter, wait, come, tokens)
    return { go = false, because = because, waitMs = come }
  end

  local own_fly = free and 0 or flight_wait(account.search, flying, 0)
  local own = math.max(cooldown, wait_of('requests', account, fixed, 1, 0), wait_of('tokens', account, fixed, tokens, 0), own_fly)
  leave(holder, call.waiter, tokens)
  take(account, fixed, tokens)
  local taken = { takenMs = now, sendMs = now + own, bytes = call.bytes, tokens = tokens,
    requestsTaken = account.requests.taken, tokensTaken = account.tokens.taken }
  depart(account.search, taken)
  return { go = true, waitMs = own, taken = taken }
end

function calls.leave(account, fixed)
  leave(fixed or account, call.waiter, estimate_tokens(call.inputs, call.bytes, account.bytesPerToken))
  return {}
end

function calls.settle(account, fixed)
  local taken, tokens = call.taken, call.tokens
  if tokens and taken.takenMs >= account.bornMs then
    account.tokens.level = account.tokens.level + (taken.tokens - tokens)
    if fixed then fixed.tokens = fixed.tokens + (taken.tokens - tokens) end
  end
  land(account, taken)
  hear(account, taken, call.limits)
  if taken.takenMs >= account.bornMs then
    search_answered(account.search, math.max(1, account.atMs - taken.sendMs), taken.bytes, tokens or taken.tokens, account.atMs)
  end
  if tokens and tokens > 0 and taken.bytes > 0 then
    local observed = math.min(16, math.max(1, taken.bytes / tokens))
    account.bytesPerToken = account.bytesPerToken + rules.ratioWeight * (observed - account.bytesPerToken)
  end
  close(account)
  return {}
end

function calls.refuse(account)
  local taken, limits = call.taken, call.limits
  land(account, taken)
  if taken.takenMs >= account.bornMs then account.tokens.level = account.tokens.level + taken.tokens end
  hear(account, taken, limits)
  local cut = taken.takenMs > account.changedMs + rules.cutPauseMs
  local is_rated = account.requests.perMinute < UNBOUNDED
  local rate_of, factor = search_refused(account.search, is_rated, taken.takenMs, account.atMs)
  local pause = math.min(rules.cooldownMsMax, math.max(0, call.retryAfterMs * factor))
  for kind, remaining in pairs({ requests = limits.requestsRemaining or false, tokens = limits.tokensRemaining or false }) do
    local meter = account[kind]
    if is_searched(meter, account.search) then
      if rate_of then meter.perMinute = rate_of(kind, meter.perMinute) end
      if meter.perMinute < UNBOUNDED then meter.level = math.min(meter.level, -(meter.perMinute * pause) / MINUTE_MS) end
    else
      if not remaining then meter.level = math.min(meter.level, 0) end
      if cut then meter.perMinute = math.max(1, meter.perMinute * rules.cutFactor) end
    end
  end
  if cut then account.changedMs = account.atMs end
  local until_ms = account.atMs + pause
  account.cooldownUntilMs = math.max(account.cooldownUntilMs, until_ms)
  return {}
end

function calls.release(account, fixed)
  if call.taken.takenMs < account.bornMs then return {} end
  land(account, call.taken)
  for kind, units in pairs({ requests = 1, tokens = call.taken.tokens }) do
    account[kind].level = account[kind].level + units
    if fixed then fixed[kind] = fixed[kind] + units end
  end
  return {}
end

function calls.fail(account, fixed)
  land(account, call.taken)
  if account.openUntilMs > 0 then
    return { next = 'wait', waitMs = math.max(account.openUntilMs - now, rules.retryMs) }
  end
  if account.search.concurrency > 0 and call.taken.takenMs > account.search.halvedMs then halve(account.search) end
  account.failures = account.failures + 1
  if account.failures >= rules.failuresToOpen then return { next = 'wait', waitMs = reopen(account) } end
  if now < account.probeUntilMs then return { next = 'wait', waitMs = rules.retryMs } end
  return { next = 'probe', waitMs = grant_probe(account, fixed) }
end

function calls.probed(account)
  account.probeUntilMs = 0
  if call.ok then
    close(account)
    return { waitMs = 0 }
  end
  if now < account.openUntilMs then return { waitMs = account.openUntilMs - now } end
  account.failures = account.failures + 1
  if account.openUntilMs == 0 and account.failures < rules.failuresToOpen then return { waitMs = rules.retryMs } end
  return { waitMs = reopen(account) }
end

local account, fixed = load_account(), load_fixed()
refill(account)
if call.op == 'look' then
  account.nowMs, account.waiters = now, redis.call('ZCOUNT', LINE, now - rules.lineGraceMs, '+inf')
  return cjson.encode(account)
end

local answer = calls[call.op](account, fixed)
save_account(account)
if fixed then write(FIXED, fixed) end
return cjson.encode(answer)
