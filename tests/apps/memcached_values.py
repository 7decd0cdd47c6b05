# SPDX-License-Identifier: Apache-2.0
# memcached_values.py HOST PORT - eight threads set and get random values, singly and many at a time, and
# compare; prints how many bytes of values went either way
import random
import socket
import sys
import threading

total = []


def client(number):
    rnd = random.Random(number)
    sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
    file = sock.makefile("rb")
    values = {}
    moved = 0
    for i in range(40):
        key = b"c%d-%d" % (number, i)
        values[key] = rnd.randbytes(rnd.choice((1, 100, 5000, 100000, 1000000)))
        sock.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(values[key]), values[key]))
        assert file.readline() == b"STORED\r\n"
        moved += len(values[key])
    keys = list(values)
    for _ in range(12):
        some = rnd.sample(keys, rnd.choice((1, 5, 20)))
        sock.sendall(b"get " + b" ".join(some) + b"\r\n")
        for key in some:
            head = file.readline().split()
            assert head == [b"VALUE", key, b"0", b"%d" % len(values[key])], head
            assert file.read(len(values[key]) + 2) == values[key] + b"\r\n", key
            moved += len(values[key])
        assert file.readline() == b"END\r\n"
    total.append(moved)


threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert len(total) == len(threads)
print(sum(total))
