#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# PostgreSQL, a process per connection: pgbench with lasting connections and with a new one for each
# transaction, whose sums must agree; and a table that goes in and out by COPY.
. "$(dirname "$0")/lib.sh"
bin=$(echo /usr/lib/postgresql/*/bin)
PATH=$PATH:${bin##* }
apps_need postgres initdb psql pgbench setpriv
export PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=20

# It refuses to be root.
as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
data=

sql() # TEXT
{
	client psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$addr" -c "$1"
}

cluster()
{
	data=$T_DIR/files/data
	[ -d "$data" ] && return
	install -d -o 65534 -g 65534 -m 700 "$data"
	t_in A "${as_nobody[@]}" initdb --no-sync -U postgres -A trust -E UTF8 --locale=C -D "$data" \
		>"$work/initdb.log" 2>&1 || fail "initdb: $(tail -n 5 "$work/initdb.log")"
	echo 'host all all 10.77.0.0/24 trust' >>"$data/pg_hba.conf"
	# Rows whose order is that of their text.
	head -c 24000000 /dev/urandom | base64 -w 120 | awk '{ printf "%07d\t%s\n", NR, $0 }' \
		>"$T_DIR/files/rows"
}

transactions() # NUMBER ARGS...
{
	local want=$1
	shift
	client pgbench -n -h "$addr" -c 4 -j 2 -t $((want / 4)) "$@" >"$work/pgbench" 2>&1 ||
		fail "$place, $case_name: $(tail -n 3 "$work/pgbench")"
	[ "$(sql 'select count(*) from pgbench_history')" = "$want" ] || fail "$place: transactions are missing"
	[ "$(sql 'select (select sum(delta) from pgbench_history) = (select sum(abalance) from pgbench_accounts) and
		(select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches)')" = t ] ||
		fail "$place: the sums do not agree"
}

cell()
{
	local pid
	cluster
	server_spawn "${as_nobody[@]}" "$(command -v postgres)" -D "$data" -c "listen_addresses=$addr" \
		-c unix_socket_directories= -c fsync=off -c shared_buffers=64MB -c max_parallel_workers=2 >"$work/pg.log" 2>&1
	pid=$T_PID
	app_listens 5432
	e2e_await 20 sql 'select 1' >"$work/out" 2>&1 || fail "$place: no answer: $(cat "$work/out" "$work/pg.log")"

	app_case 'pgbench'
	client pgbench -i -q -h "$addr" >"$work/pgbench" 2>&1 || fail "$place: pgbench -i: $(tail -n 3 "$work/pgbench")"
	transactions 1200 -M prepared
	app_case 'pgbench -C'
	sql 'truncate pgbench_history; update pgbench_accounts set abalance = 0;
		update pgbench_tellers set tbalance = 0; update pgbench_branches set bbalance = 0'
	transactions 100 -C

	app_case 'COPY'
	sql 'drop table if exists t; create unlogged table t (id text, value text)'
	sql "\\copy t from '$T_DIR/files/rows'"
	sql "\\copy (select * from t order by id) to '$work/rows'"
	app_same "$T_DIR/files/rows" "$work/rows"
	app_bulk $((2 * $(stat -c %s "$T_DIR/files/rows")))
	app_end "$pid" INT || fail "$place: postgres ended with $?: $(tail -n 5 "$work/pg.log")"
}

apps_matrix cell
