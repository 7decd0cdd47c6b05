#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# redis: a mass insert by a pipeline, persistence forks under load, a replica that follows and one that
# joins late, pub/sub, a cluster of three whose bus and slot migration are streams too. What a server
# holds is compared by its digest, with that of the same commands in plain runs and after a restart.
. "$(dirname "$0")/lib.sh"
apps_need redis-server redis-cli redis-benchmark /usr/bin/python3

cli() # PORT ARGS...
{
	local port=$1
	shift
	client redis-cli -h "$addr" -p "$port" "$@"
}

info() # HOST PORT SECTION FIELD
{
	e2e_run A timeout 20 redis-cli -h "$1" -p "$2" info "$3" | tr -d '\r' | sed -n "s/^$4://p"
}

info_is() # HOST PORT SECTION FIELD VALUE
{
	[ "$(info "$1" "$2" "$3" "$4")" = "$5" ]
}

digest() # HOST PORT
{
	e2e_run A timeout 20 redis-cli -h "$1" -p "$2" debug digest
}

redis() # client_spawn|server_spawn PORT ARGS...
{
	local spawn=$1 port=$2
	shift 2
	mkdir -p "$work/$port"
	$spawn redis-server --port "$port" --bind 0.0.0.0 --protected-mode no --enable-debug-command yes \
		--dir "$work/$port" --save '' --rdbcompression no --logfile "$work/$port.log" "$@"
}

pipeline()
{
	local want
	app_case pipeline
	[ -s "$T_DIR/files/commands" ] || /usr/bin/python3 - >"$T_DIR/files/commands" <<-'END'
		import random, sys
		random.seed(1)
		for i in range(20000):
		    value = random.randbytes(random.choice((10, 300, 20000)))
		    sys.stdout.buffer.write(b"*3\r\n$3\r\nSET\r\n$8\r\nkey%05d\r\n$%d\r\n%s\r\n"
		                            % (i, len(value), value))
	END
	cli 6379 --pipe <"$T_DIR/files/commands" >"$work/out" || fail "$place: --pipe: $(cat "$work/out")"
	grep -q 'errors: 0, replies: 20000' "$work/out" || fail "$place: $(cat "$work/out")"
	app_bulk "$(stat -c %s "$T_DIR/files/commands")"
	want=$T_DIR/files/digest
	[ -s "$want" ] || digest "$addr" 6379 >"$want"
	[ "$(digest "$addr" 6379)" = "$(cat "$want")" ] || fail "$place: the commands have made other data"
}

# Forks, while clients go on.
persistence()
{
	local pid
	app_case 'BGSAVE, BGREWRITEAOF'
	client_spawn timeout 60 redis-benchmark -h "$addr" -t set,get -n 30000 -d 2000 -r 5000 -c 8 --csv \
		>"$work/benchmark" 2>&1
	pid=$T_PID
	cli 6379 bgsave >"$work/out"
	grep -q started "$work/out" || fail "$place: bgsave: $(cat "$work/out")"
	e2e_await 30 info_is "$addr" 6379 persistence rdb_bgsave_in_progress 0 || fail "$place: no end of bgsave"
	cli 6379 bgrewriteaof >"$work/out"
	e2e_await 30 info_is "$addr" 6379 persistence aof_rewrite_in_progress 0 || fail "$place: no end of AOF"
	wait "$pid" || fail "$place: redis-benchmark: $(tail -n 3 "$work/benchmark")"
	info_is "$addr" 6379 persistence rdb_last_bgsave_status ok || fail "$place: bgsave failed"
	info_is "$addr" 6379 persistence aof_last_bgrewrite_status ok || fail "$place: AOF rewrite failed"
}

replica_follows() # HOST PORT
{
	local offset
	offset=$(info "$addr" 6379 replication master_repl_offset)
	[ -n "$offset" ] && info_is "$1" "$2" replication master_link_status up &&
		[ "$(info "$1" "$2" replication slave_repl_offset)" -ge "$offset" ]
}

replication()
{
	app_case 'replication'
	redis client_spawn 6380 --replicaof "$addr" 6379
	replica=$T_PID
	e2e_await 30 replica_follows 127.0.0.1 6380 || fail "$place: the replica does not follow: $(tail "$work/6380.log")"
	client redis-benchmark -h "$addr" -t set,lpush,sadd -n 5000 -d 500 -r 5000 -P 8 --csv >"$work/out" 2>&1 ||
		fail "$place: redis-benchmark: $(tail -n 3 "$work/out")"
	e2e_await 30 replica_follows 127.0.0.1 6380 || fail "$place: the replica is behind: $(tail "$work/6380.log")"
	[ "$(digest "$addr" 6379)" = "$(digest 127.0.0.1 6380)" ] || fail "$place: the replica has other data"
	app_bulk "$(info "$addr" 6379 memory used_memory_dataset)"
}

subscriber_heard()
{
	grep -qx "$1" "$work/heard"
}

pubsub()
{
	local pid
	app_case 'pub/sub'
	client_spawn redis-cli -h "$addr" subscribe news >"$work/heard"
	pid=$T_PID
	e2e_await 10 subscriber_heard subscribe || fail "$place: not subscribed"
	seq -f 'publish news m%.0f' 3000 | cli 6379 >"$work/out" || fail "$place: publish: $(tail -n 3 "$work/out")"
	e2e_await 20 subscriber_heard m3000 || fail "$place: the last message did not come: $(tail -n 3 "$work/heard")"
	app_end "$pid"
	grep '^m[0-9]' "$work/heard" | cmp - <(seq -f 'm%.0f' 3000) || fail "$place: messages lost or out of order"
}

restart()
{
	local before
	app_case restart
	before=$(digest "$addr" 6379)
	client redis-cli -p 6380 shutdown nosave
	wait "$replica" || fail "$place: the replica ended with $?"
	cli 6379 shutdown nosave
	wait "$main" || fail "$place: redis ended with $?: $(tail "$work/6379.log")"
	redis server_spawn 6379 --appendonly yes
	main=$T_PID
	app_listens 6379
	e2e_await 20 info_is "$addr" 6379 persistence loading 0 || fail "$place: it does not load"
	[ "$(digest "$addr" 6379)" = "$before" ] || fail "$place: the restarted server has other data"
	cli 6379 shutdown nosave
	wait "$main" || fail "$place: redis ended with $?: $(tail "$work/6379.log")"
}

node_ok() # HOST PORT
{
	client redis-cli -h "$1" -p "$2" cluster info | grep -q 'cluster_state:ok'
}

cluster_ok() # HOST of the third node
{
	node_ok "$addr" 7001 && node_ok "$addr" 7002 && node_ok "$1" 7003
}

cluster()
{
	local other=127.0.0.1 pids=() port i
	app_case cluster
	[ "$place" = loopback ] || other=$T_ADDR_A
	for port in 7001 7002; do
		redis server_spawn "$port" --cluster-enabled yes
		pids+=("$T_PID")
		app_listens "$port"
	done
	redis client_spawn 7003 --cluster-enabled yes
	pids+=("$T_PID")
	t_wait_port A 7003 || fail "$place: no third node"
	client redis-cli --cluster create "$addr:7001" "$addr:7002" "$other:7003" --cluster-yes >"$work/out" 2>&1 ||
		fail "$place: cluster create: $(tail -n 5 "$work/out")"
	e2e_await 20 cluster_ok "$other" || fail "$place: the cluster does not come up"
	# Values of all slots, by redirections; then slots move with what is in them.
	for i in $(seq 300); do
		echo "set k$i $(printf '%01000d' "$i")"
	done | cli 7001 -c >"$work/out"
	[ "$(grep -c OK "$work/out")" = 300 ] || fail "$place: cluster set: $(tail -n 3 "$work/out")"
	client redis-cli --cluster reshard "$addr:7001" --cluster-yes --cluster-slots 300 \
		--cluster-from "$(cli 7001 cluster myid)" --cluster-to "$(client redis-cli -h "$other" -p 7003 cluster myid)" \
		>"$work/out" 2>&1 || fail "$place: reshard: $(tail -n 5 "$work/out")"
	seq -f 'get k%.0f' 300 | cli 7002 -c | grep -v -e '^$' -e '^->' >"$work/got"
	cmp "$work/got" <(seq -f '%01000.0f' 300) || fail "$place: values of the cluster differ"
	cli 7001 shutdown nosave
	cli 7002 shutdown nosave
	client redis-cli -h "$other" -p 7003 shutdown nosave
	wait "${pids[@]}" || fail "$place: a node ended with $?"
}

cell()
{
	redis server_spawn 6379 --appendonly yes
	main=$T_PID
	app_listens 6379
	pipeline
	persistence
	replication
	pubsub
	restart
	cluster
}

apps_matrix cell
