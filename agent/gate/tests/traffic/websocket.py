"""Both ends of WebSockets, by a library that nobody here wrote (websockets on PyPI).

websocket.py server: prints its port, echoes, and prints with which code each connection closed.
websocket.py client URL: checks what it can, prints "ready", goes on talking, and prints with which
code the connection closed.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

LENGTHS = [0, 1, 125, 126, 65535, 65536, 3_000_000]


def say(text):
    print(text, flush=True)


async def server():
    async def echo(socket):
        try:
            async for message in socket:
                await socket.send(message)
        finally:
            await socket.wait_closed()
            say(f"closed {socket.close_code}")

    async with serve(echo, "127.0.0.1", 0, max_size=None) as it:
        say(it.sockets[0].getsockname()[1])
        await it.serve_forever()


async def check(url, compression):
    async with connect(url, compression=compression, max_size=None) as socket:
        for length in LENGTHS:
            for message in ["x" * length, bytes(length)]:
                await socket.send(message)
                assert await socket.recv() == message, length
        await socket.send(["in ", "three ", "pieces"])
        assert await socket.recv() == "in three pieces"
        for number in range(100):
            await socket.send(str(number))
        assert [await socket.recv() for _ in range(100)] == [str(n) for n in range(100)]
        await (await socket.ping())
    assert socket.close_code == 1000, socket.close_code


async def client(url):
    await asyncio.gather(*(check(url, how) for how in [None, "deflate"] for _ in range(5)))
    async with connect(url) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        say("ready")
        try:
            while True:
                await socket.send("x" * 1_000)
                await socket.recv()
        except ConnectionClosed as closed:
            say(f"closed {closed.rcvd.code if closed.rcvd else None}")


asyncio.run(server() if sys.argv[1] == "server" else client(sys.argv[2]))
