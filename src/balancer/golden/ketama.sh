#!/usr/bin/env bash
# Makes ketama.txt: which server a real nginx picks with `hash $arg_k consistent` for the keys key-0 to key-9999, for three
# sets of weights. Needs nginx (Debian: nginx-light) and curl; listens on loopback only. Run it here: ./ketama.sh > ketama.txt
set -euo pipefail
port=18100 front=18099
dir=$(mktemp -d)
trap 'kill "$(cat "$dir/pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$dir"' EXIT

echo "# $(nginx -v 2>&1), hash \$arg_k consistent; servers 127.0.0.1:$port, 127.0.0.2:$port, ... with these weights;"
echo "# the n-th digit is the last number of the server's address, less one, for key-n"
for weights in "1 1 1 1 1" "1 2 3 4 5" "7 1 1 3 2 5 1 1 4 20"; do
  servers='' listens='' n=0
  for weight in $weights; do
    n=$((n + 1))
    servers+="server 127.0.0.$n:$port weight=$weight; "
    listens+="listen 127.0.0.$n:$port; "
  done
  cat >"$dir/conf" <<CONF
pid $dir/pid;
error_log $dir/error.log;
events {}
http {
  access_log off;
  client_body_temp_path $dir/b; proxy_temp_path $dir/p; fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
  upstream u { hash \$arg_k consistent; $servers }
  server { listen 127.0.0.1:$front; location / { proxy_pass http://u; } }
  server { $listens return 200 "\$server_addr\n"; }
}
CONF
  nginx -c "$dir/conf"
  while [ ! -s "$dir/pid" ]; do sleep 0.1; done
  echo "$weights"
  curl -s "http://127.0.0.1:$front/?k=key-[0-9999]" | grep -o '^127\.0\.0\.[0-9]*' | sed 's/.*\.//' | awk '{ printf "%d", $1 - 1 } END { print "" }'
  pid=$(cat "$dir/pid")
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
done
