-- Walks through requests that were made beforehand, each once, and ends when the last is answered.
-- wrk … -s walk.lua URL -- FILE NUMBER RESULT STATUS PART: each request in FILE has its length before it, eight digits;
-- RESULT gets the seconds from the first request to the last answer. An answer of another status, or without
-- PART in its body, is an error.
local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } bench_time;
int clock_gettime(int clock, bench_time *time);
]]

local file, number, result, status, part
local asked, answered, began = -1, 0, nil
local nothing_left = "GET /nothing-left HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

local function now()
    local time = ffi.new("bench_time")
    ffi.C.clock_gettime(1, time) -- CLOCK_MONOTONIC
    return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

local function finish(line, code)
    local out = io.open(result, "w")
    out:write(line, "\n")
    out:close()
    os.exit(code)
end

function init(args)
    file = io.open(args[1], "rb")
    number, result, status, part = tonumber(args[2]), args[3], tonumber(args[4]), args[5] or ""
end

function request()
    asked = asked + 1
    if asked == 0 then return nothing_left end -- wrk looks at this one, and does not send it
    if asked > number then return nothing_left end -- 404, while the last are on their way
    if asked == 1 then began = now() end
    return file:read(tonumber(file:read(8)))
end

function response(answer, headers, body)
    if answer == status and body:find(part, 1, true) then
        answered = answered + 1
        if answered == number then finish(string.format("%.6f", now() - began), 0) end
    elseif asked <= number or answer ~= 404 then
        finish(string.format("answer %d to one of the first %d: %s", answer, asked, body), 1)
    end
end
