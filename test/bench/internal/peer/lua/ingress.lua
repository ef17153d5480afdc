-- What is worked out for each request before it is sent on.
local ngx = ngx
local re_sub = ngx.re.sub

local _M = {}

local config = { use_forwarded_headers = false, use_proxy_protocol = false, hsts = true, hsts_max_age = "31536000" }

local function parse_x_forwarded_host()
  local hosts = ngx.var.http_x_forwarded_host
  if not hosts then
    return nil
  end
  return re_sub(hosts, [[\s*,.*$]], "", "jo")
end

local function redirects(location)
  if location.force_ssl_redirect and ngx.var.pass_access_scheme == "http" then
    return true
  end
  return location.ssl_redirect and ngx.var.pass_access_scheme ~= "https" and location.has_certificate
end

function _M.rewrite(location)
  ngx.var.pass_access_scheme = ngx.var.scheme
  ngx.var.best_http_host = ngx.var.http_host or ngx.var.host
  if config.use_forwarded_headers then
    ngx.var.best_http_host = parse_x_forwarded_host() or ngx.var.best_http_host
  end
  if config.use_proxy_protocol and ngx.var.proxy_protocol_server_port == "443" then
    ngx.var.pass_access_scheme = "https"
  end
  ngx.var.pass_server_port = ngx.var.server_port
  ngx.var.pass_port = ngx.var.pass_server_port
  if redirects(location) then
    return ngx.redirect("https://" .. ngx.var.best_http_host .. ngx.var.request_uri, 308)
  end
end

function _M.header()
  if config.hsts and ngx.var.scheme == "https" then
    ngx.header["Strict-Transport-Security"] = "max-age=" .. config.hsts_max_age .. "; includeSubDomains"
  end
end

return _M
