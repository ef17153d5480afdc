-- Collects what metrics are made of, in batches.
local ngx = ngx
local tonumber = tonumber

local _M = {}

local MOST = 10000
local batch, n = {}, 0

local function metrics()
  return {
    host = ngx.var.host or "-",
    namespace = ngx.var.namespace or "-",
    ingress = ngx.var.ingress_name or "-",
    service = ngx.var.service_name or "-",
    canary = ngx.var.proxy_alternative_upstream_name or "-",
    path = ngx.var.location_path or "-",
    method = ngx.var.request_method or "-",
    status = ngx.var.status or "-",
    requestLength = tonumber(ngx.var.request_length) or -1,
    requestTime = tonumber(ngx.var.request_time) or -1,
    responseLength = tonumber(ngx.var.bytes_sent) or -1,
    upstreamLatency = tonumber(ngx.var.upstream_connect_time) or -1,
    upstreamHeaderTime = tonumber(ngx.var.upstream_header_time) or -1,
    upstreamResponseTime = tonumber(ngx.var.upstream_response_time) or -1,
  }
end

local function flush(premature)
  if premature then
    return
  end
  batch, n = {}, 0
end

function _M.init_worker()
  local ok, err = ngx.timer.every(1, flush)
  if not ok then
    ngx.log(ngx.ERR, "cannot make a timer: ", err)
  end
end

function _M.call()
  if n >= MOST then
    return
  end
  n = n + 1
  batch[n] = metrics()
end

return _M
