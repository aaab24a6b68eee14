-- wrk's script: each request carries the next line of a file as its Authorization.
--   wrk … -s load.lua URL -- FILE FIRST
-- FIRST is the line to begin with, from 0.  The result is one line of JSON.

local requests, sent = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", nil, { Authorization = line })
  end
  sent = tonumber(arguments[2])
end

function request()
  local one = requests[sent % #requests + 1]
  sent = sent + 1
  return one
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "refused": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
