#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nginx: files of all sizes by sendfile, through another nginx that keeps its upstream connections, and
# by TLS; wrk; and reloads while a client downloads. The checksums are those of the files.
. "$(dirname "$0")/lib.sh"
apps_need nginx curl wrk openssl

sizes='1000 64000 1000000 60000000'

config() # NAME SERVERS...
{
	cat <<-END
		daemon off;
		user root;
		worker_processes 2;
		pid $work/$1.pid;
		error_log $work/$1.log;
		events { worker_connections 256; }
		http {
			access_log off;
			client_body_temp_path $work/$1.body;
			proxy_temp_path $work/$1.proxy;
			fastcgi_temp_path $work/$1.fastcgi;
			uwsgi_temp_path $work/$1.uwsgi;
			scgi_temp_path $work/$1.scgi;
			sendfile on;
			tcp_nopush on;
	END
	cat
	echo '}'
}

downloads() # TIMES BASE_URL ARGS...
{
	local times=$1 base=$2 bytes i sum=0
	shift 2
	rm -rf "$work/got"
	mkdir "$work/got"
	for i in $(seq "$times"); do
		for bytes in $sizes; do
			echo "url = $base/$bytes"
			echo "output = $work/got/$i-$bytes"
			sum=$((sum + bytes))
		done
	done >"$work/urls"
	client curl --no-progress-meter --fail --max-time 60 -K "$work/urls" "$@" >"$work/out" 2>&1 ||
		fail "$place: curl of $base: $? $(tail -n 3 "$work/out")"
	for i in $(seq "$times"); do
		for bytes in $sizes; do
			app_same "$T_DIR/files/$bytes" "$work/got/$i-$bytes"
		done
	done
	app_bulk "$sum"
}

certificate()
{
	[ -s "$T_DIR/files/cert.pem" ] || openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -days 2 \
		-keyout "$T_DIR/files/key.pem" -out "$T_DIR/files/cert.pem" 2>/dev/null || fail 'no certificate'
}


cell()
{
	local origin front bytes pid i requests
	certificate
	mkdir "$work/www"
	for bytes in $sizes; do
		app_file "$work/www/$bytes" "$bytes"
	done
	config origin >"$work/origin.conf" <<-END
		server { listen 8080; root $work/www; keepalive_requests 100000; }
		server {
			listen 8443 ssl;
			root $work/www;
			ssl_certificate $T_DIR/files/cert.pem;
			ssl_certificate_key $T_DIR/files/key.pem;
		}
	END
	config front >"$work/front.conf" <<-END
		upstream origin { server $addr:8080; keepalive 8; }
		server {
			listen 8081;
			location / {
				proxy_pass http://origin;
				proxy_http_version 1.1;
				proxy_set_header Connection "";
			}
		}
	END
	server_spawn nginx -c "$work/origin.conf" -e "$work/origin.log"
	origin=$T_PID
	client_spawn nginx -c "$work/front.conf" -e "$work/front.log"
	front=$T_PID
	app_listens 8080
	t_wait_port A 8081 || fail "$place: no front"

	app_case 'sendfile'
	downloads 4 "http://$addr:8080"
	app_case 'TLS'
	downloads 2 "https://$addr:8443" -k
	app_case 'upstream'
	downloads 2 http://127.0.0.1:8081
	# Its body makes a second way, from the front to the origin.
	app_bulk $((2 * 2 * 61065000))

	app_case 'wrk'
	client wrk -t 2 -c 16 -d 1 "http://$addr:8080/64000" >"$work/wrk" 2>&1 || fail "$place: wrk: $(cat "$work/wrk")"
	! grep -e 'Socket errors' -e 'Non-2xx' "$work/wrk" || fail "$place: wrk met errors"
	requests=$(sed -n 's/ *\([0-9]*\) requests in.*/\1/p' "$work/wrk")
	[ "$requests" -gt 100 ] || fail "$place: $(cat "$work/wrk")"
	app_bulk $((requests * 64000))

	app_case 'reload under load'
	downloads 4 "http://$addr:8080" --limit-rate 200M >"$work/reload.out" 2>&1 &
	pid=$!
	for i in 1 2 3; do
		server nginx -c "$work/origin.conf" -e "$work/origin.log" -s reload || fail "$place: reload: $?"
		client curl --no-progress-meter --fail -o "$work/one" "http://$addr:8080/64000" || fail "$place: $?"
		app_same "$T_DIR/files/64000" "$work/one"
	done
	wait "$pid" || fail "$place: $(cat "$work/reload.out")"
	for pid in "$front" "$origin"; do
		app_end "$pid" QUIT || fail "$place: nginx ended with $?: $(tail -n 5 "$work"/*.log)"
	done
}

apps_matrix cell
