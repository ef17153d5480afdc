-- Chooses the endpoint of a request, by the name of its backend, in turn.
local ngx_balancer = require("ngx.balancer")

local ngx = ngx
local string_format = string.format

local _M = {}

-- By backend: its endpoints, and the next of them.
local balancers = {}

local function endpoint(backend)
  local b = balancers[backend]
  if not b then
    return nil
  end
  local i = b.next
  b.next = i % #b.peers + 1
  return b.peers[i]
end

function _M.sync(backends)
  for name, peers in pairs(backends) do
    balancers[name] = { peers = peers, next = 1 }
  end
end

local function current()
  if ngx.ctx.balancer then
    return ngx.ctx.balancer
  end
  local name = ngx.var.proxy_upstream_name
  local b = balancers[name]
  if not b then
    return nil
  end
  if ngx.var.proxy_alternative_upstream_name ~= "" then
    name = ngx.var.proxy_alternative_upstream_name
  end
  ngx.ctx.balancer = name
  return name
end

function _M.rewrite()
  if not current() then
    ngx.status = ngx.HTTP_SERVICE_UNAVAILABLE
    return ngx.exit(ngx.status)
  end
end

function _M.balance()
  local name = current()
  local peer = name and endpoint(name)
  if not peer then
    ngx.log(ngx.WARN, "no endpoint of " .. tostring(name))
    return
  end
  if peer:match(string_format("^%s:.*$", "unix")) then
    return
  end
  ngx_balancer.set_more_tries(1)
  local ok, err = ngx_balancer.set_current_peer(peer)
  if not ok then
    ngx.log(ngx.ERR, "cannot set the endpoint ", peer, ": ", err)
  end
end

function _M.log()
  if not current() then
    return
  end
  -- Only balancers that weigh latency have something to do here.
end

return _M
