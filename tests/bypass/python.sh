#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Python's sockets: an asyncio server, and a client of threads with blocking sockets and their files.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need python3 jq

all_runs()
{
	local server
	cat >"$T_DIR/server.py" <<-'END'
		import asyncio, sys
		left = int(sys.argv[2])
		async def serve(reader, writer):
		    global left
		    while data := await reader.read(65536):
		        writer.write(data)
		        await writer.drain()
		    writer.close()
		    left -= 1
		    if not left:
		        done.set()
		async def main():
		    global done
		    done = asyncio.Event()
		    async with await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1])):
		        await done.wait()
		asyncio.run(main())
	END
	cat >"$T_DIR/client.py" <<-'END'
		import os, socket, subprocess, sys, threading
		failed = []
		def talk(n):
		    try:
		        with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
		            f = s.makefile("rwb")
		            for i in range(300):
		                data = os.urandom(10 + n * 3000)
		                f.write(data)
		                f.flush()
		                assert f.read(len(data)) == data
		            subprocess.run(["true"], check=True, close_fds=n % 2 == 0)
		            s.shutdown(socket.SHUT_WR)
		            assert s.recv(1) == b""
		    except BaseException as e:
		        failed.append(repr(e))
		threads = [threading.Thread(target=talk, args=(n,)) for n in range(4)]
		for t in threads: t.start()
		for t in threads: t.join()
		sys.exit(", ".join(failed) or 0)
	END
	e2e_spawn B timeout 60 python3 "$T_DIR/server.py" 9000 4 >"$T_DIR/server.log" 2>&1
	server=$T_PID
	t_wait_port B 9000 || fail "the server does not listen: $(cat "$T_DIR/server.log")"
	e2e_run A timeout 60 python3 "$T_DIR/client.py" "$T_ADDR_B" 9000 >"$T_DIR/out" 2>&1 ||
		fail "client: $(tail -n 5 "$T_DIR/out")"
	wait "$server" || fail "server: $(tail -n 5 "$T_DIR/server.log")"
}

e2e_policies all_runs
