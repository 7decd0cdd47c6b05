#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# haproxy beside nginx, as HTTP proxy and as plain TCP: downloads and an upload through it keep their
# content; and it reloads under load twice, once with its listeners passed over the old one's socket.
. "$(dirname "$0")/lib.sh"
apps_need haproxy nginx curl socat

bytes=40000000

haproxy_config()
{
	local origin=127.0.0.1
	[ "$place" = loopback ] || origin=$T_ADDR_A
	cat <<-END
		global
		    stats socket $work/haproxy.sock mode 600 level admin expose-fd listeners
		    maxconn 200
		defaults
		    timeout connect 10s
		    timeout client 30s
		    timeout server 30s
		frontend web
		    mode http
		    bind :8000
		    default_backend origin
		backend origin
		    mode http
		    http-reuse always
		    server one $origin:8080
		listen raw
		    mode tcp
		    bind :8001
		    server one $origin:8080
	END
}

nginx_config()
{
	cat <<-END
		daemon off;
		user root;
		worker_processes 2;
		pid $work/nginx.pid;
		error_log $work/nginx.log;
		events { worker_connections 256; }
		http {
			access_log off;
			client_body_temp_path $work/body;
			proxy_temp_path $work/proxy;
			fastcgi_temp_path $work/fastcgi;
			uwsgi_temp_path $work/uwsgi;
			scgi_temp_path $work/scgi;
			server { listen 8080; root $work/www; keepalive_requests 100000; }
		}
	END
}

download() # TIMES URL OUT
{
	local i
	for i in $(seq "$1"); do
		printf 'url = %s\noutput = %s\n' "$2" "$3.$i"
	done >"$3.urls"
	client curl --no-progress-meter --fail --max-time 60 -K "$3.urls" >"$3.log" 2>&1 ||
		fail "$place: curl of $2: $? $(tail -n 3 "$3.log")"
	for i in $(seq "$1"); do
		cmp "$work/www/${2##*/}" "$3.$i" || fail "$place: $2 differs"
		rm "$3.$i"
	done
}

haproxy_spawn()
{
	server_spawn haproxy -f "$work/haproxy.cfg" -db "$@" >>"$work/haproxy.log" 2>&1
}

# The new one says with its own process id that it serves.
haproxy_serves() # PID
{
	echo 'show info' | socat - "UNIX-CONNECT:$work/haproxy.sock" 2>/dev/null | grep -qx "Pid: $1"
}

cell()
{
	local nginx old pid load
	mkdir "$work/www"
	app_file "$work/www/large" "$bytes"
	app_file "$work/www/small" 20000
	haproxy_config >"$work/haproxy.cfg"
	nginx_config >"$work/nginx.conf"
	client_spawn nginx -c "$work/nginx.conf" -e "$work/nginx.log"
	nginx=$T_PID
	t_wait_port A 8080 || fail "$place: no nginx"
	haproxy_spawn
	old=$T_PID
	app_listens 8000
	e2e_await 20 haproxy_serves "$old" || fail "$place: haproxy does not serve"

	app_case 'http'
	download 4 "http://$addr:8000/large" "$work/got"
	app_bulk $((2 * 4 * bytes))
	app_case 'tcp'
	download 4 "http://$addr:8001/large" "$work/got"
	app_bulk $((2 * 4 * bytes))
	app_case 'small, many'
	download 200 "http://$addr:8000/small" "$work/got"

	app_case 'reload with -sf'
	download 60 "http://$addr:8000/small" "$work/load" &
	load=$!
	haproxy_spawn -sf "$old"
	pid=$T_PID
	e2e_await 20 haproxy_serves "$pid" || fail "$place: the new haproxy does not serve: $(cat "$work/haproxy.log")"
	download 1 "http://$addr:8000/large" "$work/got"
	wait "$load" || fail "$place: the load failed: $(cat "$work/load.log")"
	wait "$old" || fail "$place: haproxy ended with $?: $(cat "$work/haproxy.log")"
	old=$pid

	app_case 'reload with -x'
	download 60 "http://$addr:8000/small" "$work/load" &
	load=$!
	haproxy_spawn -x "$work/haproxy.sock" -sf "$old"
	pid=$T_PID
	e2e_await 20 haproxy_serves "$pid" || fail "$place: the new haproxy does not serve: $(cat "$work/haproxy.log")"
	download 1 "http://$addr:8000/large" "$work/got"
	wait "$load" || fail "$place: the load failed: $(cat "$work/load.log")"
	wait "$old" || fail "$place: haproxy ended with $?: $(cat "$work/haproxy.log")"

	app_end "$pid" USR1 || fail "$place: haproxy ended with $?: $(cat "$work/haproxy.log")"
	app_end "$nginx" QUIT || fail "$place: nginx ended with $?: $(cat "$work/nginx.log")"
}

apps_matrix cell
