#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Random bytes in random pieces in each direction at once, 128 MiB each way (1 GiB with T_SOAK=1), with
# ten drains and resumes in the middle: the hashes of what one sent and the other received are equal.
. "$(dirname "$0")/../lib/e2e.sh"
e2e_need jq

mib=128
[ -z "${T_SOAK:-}" ] || mib=1024
bytes=$((mib << 20))
policy=always
stress=$T_BUILD/tests/stress/stress_stream
seed=$((RANDOM * 32768 + RANDOM))
echo "seed $seed"

t_guests_up || fail 'no guests'
e2e_spawn B timeout 600 "$stress" --listen 7000 --seed "$seed" --bytes "$bytes" >"$T_DIR/B.out" 2>&1
server=$T_PID
t_wait_port B 7000 || fail "it does not listen: $(cat "$T_DIR/B.out")"
mkfifo "$T_DIR/progress"
start=$(date +%s%3N)
# The pipe is opened by the child: we would wait here for somebody to read it.
e2e_spawn A sh -c "exec \"\$@\" >$T_DIR/progress 2>$T_DIR/A.err" sh timeout 600 "$stress" \
	--connect "$T_ADDR_B" --port 7000 --seed "$seed" --bytes "$bytes" --progress 20
client=$T_PID

# At every 1/21 of the way one of them, in either guest.
drains=0 resumes=0
while read -r line; do
	echo "$line" >>"$T_DIR/A.out"
	case $line in
	progress*)
		number=${line#progress }
		guest=$((number / 2 % 2 ? 1 : 0))
		guest=$([ "$guest" = 1 ] && echo A || echo B)
		if [ $((number % 2)) = 1 ]; then
			drained=$guest
			t_ctl "$drained" drain >/dev/null 2>&1 && drains=$((drains + 1))
		else
			t_ctl "$drained" resume >/dev/null 2>&1 && resumes=$((resumes + 1))
		fi
		;;
	esac
done <"$T_DIR/progress"
wait "$client" || fail "client ended with $?: $(cat "$T_DIR/A.err")"
wait "$server" || fail "server ended with $?: $(cat "$T_DIR/B.out")"
end=$(date +%s%3N)

echo "$mib MiB each way in $((end - start)) ms, $drains drains, $resumes resumes"
ring=$(($(e2e_stat A bytes_ring) + $(e2e_stat B bytes_ring)))
tcp=$(($(e2e_stat A bytes_tcp) + $(e2e_stat B bytes_tcp)))
echo "by ring: $ring bytes, by TCP: $tcp"
echo "switches to ring: $(e2e_stat A switches_to_ring) and $(e2e_stat B switches_to_ring)"
[ "$drains $resumes" = '10 10' ] || fail 'not ten drains and ten resumes'
for one in A B; do
	other=$([ "$one" = A ] && echo B || echo A)
	sent=$(sed -n 's/^sent //p' "$T_DIR/$one.out")
	received=$(sed -n 's/^received //p' "$T_DIR/$other.out")
	echo "$one sent $sent"
	[ "${sent%% *}" = "$bytes" ] && [ "$sent" = "$received" ] ||
		fail "$one sent $sent, $other received $received"
done
[ "$ring" -gt 0 ] || fail 'nothing went by ring'
