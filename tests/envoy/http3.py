"""Sends requests over HTTP/3 as they are, right or wrong, each over a connection of its own.

    http3.py PORT < requests

A request is a line, a JSON object: `headers` and `trailers`, lists of names and values. A line comes back for each, in order:
the status, or what happened instead.
"""

import asyncio
import json
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

# A request that nobody answers has been waited for long enough after so many seconds; an answer here takes a hundredth of it.
PATIENCE = 2
AT_ONCE = 8


class Protocol(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.end = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, (StreamReset, ConnectionTerminated)):
            self.ends(type(event).__name__)
        for event in self.http.handle_event(event):
            if isinstance(event, HeadersReceived):
                self.ends(dict(event.headers).get(b":status", b"trailers").decode())

    def ends(self, how):
        if not self.end.done():
            self.end.set_result(how)


async def ask(port, request, turn):
    pairs = lambda of: [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request[of]]
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE)
    async with turn:
        try:
            async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Protocol) as client:
                stream = client._quic.get_next_available_stream_id()
                client.http.send_headers(stream, pairs("headers"), end_stream=not request["trailers"])
                if request["trailers"]:
                    client.http.send_data(stream, b"x", end_stream=False)
                    client.http.send_headers(stream, pairs("trailers"), end_stream=True)
                client.transmit()
                return await asyncio.wait_for(client.end, PATIENCE)
        except (ConnectionError, asyncio.TimeoutError) as error:
            return type(error).__name__


async def main():
    turn = asyncio.Semaphore(AT_ONCE)
    requests = [json.loads(line) for line in sys.stdin]
    for end in await asyncio.gather(*(ask(int(sys.argv[1]), request, turn) for request in requests)):
        print(end)


asyncio.run(main())
