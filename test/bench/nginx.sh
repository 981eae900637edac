#!/usr/bin/env bash
# CPU per proxied request of the gateway beside nginx, on this machine, in one run.
#
#   test/bench/nginx.sh [rounds] [seconds]      (3 rounds of 5 s each by default)
#
# wrk with 64 kept connections asks for a 1 KB answer of an nginx that plays the node; in between stands
# once nginx and once the gateway, with discovery (its own etcd in the same process), metrics, and every
# request traced and reported. The proxy has core 0 for itself, wrk and the node share core 1. CPU time is
# the kernel's own count for all threads of the proxy. Needs nginx, wrk, etcdctl, curl; ports 9590 to 9599.
set -euo pipefail
rounds=${1:-3} seconds=${2:-5}
top=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
pids=()
cleanup() {
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT

(cd "$top" && go build -tags nomsgpack -trimpath -o "$dir/gateway" ./cmd/gateway)
body=$(head -c 1024 /dev/zero | tr '\0' x)
conf() { # name, http block
  mkdir -p "$dir/$1"
  cat > "$dir/$1.conf" <<CONF
worker_processes 1; daemon off; pid $dir/$1.pid; error_log $dir/$1.err;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 100000000; client_body_temp_path $dir/$1/b; proxy_temp_path $dir/$1/p;
fastcgi_temp_path $dir/$1/f; uwsgi_temp_path $dir/$1/u; scgi_temp_path $dir/$1/s;
$2
}
CONF
}
conf node "server { listen 127.0.0.1:9590 backlog=1024; location / { return 200 '$body'; } location /spans { return 202; } }"
conf proxy "upstream node { server 127.0.0.1:9590; keepalive 128; keepalive_requests 100000000; }
server { listen 127.0.0.1:9591; location / { proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header X-Forwarded-For \$remote_addr; } }"
cat > "$dir/gateway.yml" <<CONF
zipkinAddr: http://127.0.0.1:9590/spans
etcd: {embedded: {addr: "127.0.0.1:9594", dir: "$dir/etcd"}}
services: {user: {login: /login}}
CONF
taskset -c 1 nginx -p "$dir" -c "$dir/node.conf" 2>/dev/null & pids+=($!)
taskset -c 0 nginx -p "$dir" -c "$dir/proxy.conf" 2>/dev/null & pids+=($!)
GOMS_CALL_SERVICE_KEY=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n') GOMAXPROCS=1 \
  taskset -c 0 "$dir/gateway" -config "$dir/gateway.yml" -http_port 9592 -rpc_port 9593 -admin_port 9595 > "$dir/gateway.log" & gateway=$!
pids+=("$gateway")
curl -fsS --retry 60 --retry-delay 1 --retry-all-errors -o /dev/null http://127.0.0.1:9592/readyz
ETCDCTL_API=3 etcdctl --endpoints 127.0.0.1:9594 put goms_user_127.0.0.1:9599_127.0.0.1:9590 0 > /dev/null
curl -fsS --retry 30 --retry-delay 1 --retry-all-errors -o /dev/null http://127.0.0.1:9592/api/user/login
curl -fsS --retry 30 --retry-delay 1 --retry-all-errors -o /dev/null http://127.0.0.1:9591/login
worker=$(pgrep -P "$(cat "$dir/proxy.pid")")

cpu() { cat /proc/"$1"/task/*/schedstat | awk '{n += $1} END {printf "%.0f", n}'; } # nanoseconds
measure() { # name, pid, url
  taskset -c 1 wrk -t1 -c64 -d1 "$3" > /dev/null
  local before after n rps
  before=$(cpu "$2")
  taskset -c 1 wrk -t1 -c64 -d"$seconds" --latency "$3" > "$dir/wrk"
  after=$(cpu "$2")
  if grep -qE 'Non-2xx|Socket errors' "$dir/wrk"; then cat "$dir/wrk" >&2; exit 1; fi
  n=$(awk '/requests in/ {print $1}' "$dir/wrk")
  rps=$(awk '/Requests\/sec/ {print $2}' "$dir/wrk")
  awk -v name="$1" -v b="$before" -v a="$after" -v n="$n" -v rps="$rps" -v p99="$(awk '$1=="99%" {print $2}' "$dir/wrk")" \
    'BEGIN {printf "%-8s %6.2f us CPU/request  %8.0f requests/s  p99 %s\n", name, (a-b)/n/1000, rps, p99}' | tee -a "$dir/result"
}
for _ in $(seq "$rounds"); do
  measure nginx "$worker" http://127.0.0.1:9591/login
  measure goms "$gateway" http://127.0.0.1:9592/api/user/login
done
median() { awk -v w="$1" '$1==w {print $2}' "$dir/result" | sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
awk -v g="$(median goms)" -v n="$(median nginx)" 'BEGIN {printf "median: goms %.2f us, nginx %.2f us, ratio %.2f\n", g, n, g/n}'
