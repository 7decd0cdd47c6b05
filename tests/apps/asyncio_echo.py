# SPDX-License-Identifier: Apache-2.0
# asyncio_echo.py server PORT | client HOST PORT BYTES - streams of asyncio. The server echoes until end of
# file; the client sends BYTES over each of four connections at once, and many short lines over others
import asyncio
import hashlib
import random
import signal
import sys


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(port):
    server = await asyncio.start_server(echo, "0.0.0.0", port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with server:
        await stop.wait()


async def bulk(host, port, count, number):
    block = random.Random(number).randbytes(100000)
    sent, got = hashlib.sha256(), hashlib.sha256()
    reader, writer = await asyncio.open_connection(host, port)

    async def send():
        left = count
        while left:
            piece = block[: min(left, len(block))]
            sent.update(piece)
            writer.write(piece)
            await writer.drain()
            left -= len(piece)
        writer.write_eof()

    task = asyncio.create_task(send())
    while data := await reader.read(1 << 20):
        got.update(data)
    await task
    writer.close()
    assert sent.digest() == got.digest(), f"connection {number}"


async def lines(host, port, number):
    reader, writer = await asyncio.open_connection(host, port)
    for i in range(500):
        line = b"%d of %d\n" % (i, number)
        writer.write(line)
        assert await reader.readline() == line
    writer.close()
    await writer.wait_closed()


async def use(host, port, count):
    await asyncio.gather(*(bulk(host, port, count, n) for n in range(4)))
    await asyncio.gather(*(lines(host, port, n) for n in range(10)))


if sys.argv[1] == "server":
    asyncio.run(serve(int(sys.argv[2])))
else:
    asyncio.run(use(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
