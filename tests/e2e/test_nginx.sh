#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nginx and curl: downloads of 1 KB to 100 MB with sendfile and without, several over one connection
# and in parallel, IPv4 and IPv6; the checksums are those of the files. HAZARDS 8.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need nginx curl jq

sizes='1000 64000 1000000 100000000'

make_files()
{
	local bytes
	mkdir -p "$T_DIR/www"
	for bytes in $sizes; do
		head -c "$bytes" /dev/urandom >"$T_DIR/www/$bytes"
	done
	(cd "$T_DIR/www" && sha256sum $sizes) >"$T_DIR/sums"
	cat >"$T_DIR/nginx.conf" <<-END
		daemon off;
		user root;
		worker_processes 2;
		pid $T_DIR/nginx.pid;
		error_log $T_DIR/nginx.log;
		events { worker_connections 64; }
		http {
			access_log off;
			server { listen 8080; listen [::]:8080; root $T_DIR/www; sendfile on; tcp_nopush on; }
			server { listen 8081; root $T_DIR/www; sendfile off; }
		}
	END
}

# All sizes over one connection, then compared.
downloads() # BASE_URL ARGS...
{
	local base=$1 bytes args=()
	shift
	rm -rf "$T_DIR/got"
	mkdir "$T_DIR/got"
	for bytes in $sizes $sizes; do
		args+=(-o "$T_DIR/got/$bytes" "$base/$bytes")
	done
	e2e_run A curl --no-progress-meter --fail --max-time 60 "$@" "${args[@]}" || fail "curl of $base: $?"
	(cd "$T_DIR/got" && sha256sum --quiet -c "$T_DIR/sums") || fail "$base: content differs"
}

all_runs()
{
	local server
	make_files
	e2e_spawn B nginx -c "$T_DIR/nginx.conf" -e "$T_DIR/nginx.log"
	server=$T_PID
	t_wait_port B 8080 || fail "nginx does not listen: $(cat "$T_DIR/nginx.log")"
	downloads "http://$T_ADDR_B:8080"
	downloads "http://$T_ADDR_B:8081"
	downloads "http://[$T_ADDR6_B]:8080"
	# In parallel, from one process over several connections.
	downloads "http://$T_ADDR_B:8080" --parallel --parallel-immediate
	kill -QUIT "$server"
	wait "$server" || fail "nginx ended with $?: $(tail -n 20 "$T_DIR/nginx.log")"
}

E2E_AUTO_MOVES=1
e2e_policies all_runs
