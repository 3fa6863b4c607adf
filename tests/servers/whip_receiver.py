"""A WHIP endpoint (RFC 9725) before aiortc: takes streams, decodes them, and says what it sees, a line for each thing.

Usage: whip_receiver.py PORT [--tls PEM] [--token TOKEN] [--redirect] [--lite] [--hang-up FRAMES] [--host ADDRESS] [--relay URL] [--login USER PASSWORD]

The first line is the port that it listens on. `--tls` names a file of its key and certificate, `--redirect` sends offers elsewhere (307), `--lite` makes its ICE a lite one (RFC 8445,
section 2.5), `--hang-up` closes each connection after so many frames, `--host` is where it listens, and `--relay` and `--login` are the
TURN server that it names.
"""

import argparse
import asyncio
import itertools
import ssl

import aioice.ice
from aiohttp import web
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--tls")
parser.add_argument("--token")
parser.add_argument("--redirect", action="store_true")
parser.add_argument("--lite", action="store_true")
parser.add_argument("--hang-up", type=int)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--relay", default="turn:127.0.0.1:9")
parser.add_argument("--login", nargs=2, default=["u", "hidden"])
options = parser.parse_args()

sessions = {}
watches = set()
numbers = itertools.count(1)
interfaces = aioice.ice.get_host_addresses


def addresses(use_ipv4, use_ipv6):
    """aioice knows no loopback, which is all that some machines have."""
    return interfaces(use_ipv4, use_ipv6) or ["127.0.0.1"]


async def no_check(self, pair):
    """A lite side believes in what it hears, and asks nothing."""
    self.check_state(pair, aioice.ice.CandidatePair.State.SUCCEEDED)
    pair.nominated = pair.remote_nominated
    self.check_complete(pair)


async def no_consent(self):
    await asyncio.Event().wait()


aioice.ice.get_host_addresses = addresses
if options.lite:
    aioice.ice.Connection.check_start = no_check
    aioice.ice.Connection.query_consent = no_consent


def say(*words):
    print(*words, flush=True)


def strip(frame):
    """The number in the strip of the pattern's picture, as laterna::source::pattern writes it; -1 where there is none."""
    cell = 16 if frame.width >= 1280 else 8
    columns = min(76, frame.width // cell)
    plane = frame.planes[0]
    luma, stride = bytes(plane), plane.line_size

    def bit(index):
        y, x = (index // columns * cell + cell // 2), (index % columns * cell + cell // 2)
        return luma[y * stride + x] > 128

    def byte(index):
        return sum(bit(2 + index * 8 + at) << (7 - at) for at in range(8))

    data = [byte(index) for index in range(9)]
    check = 0
    for value in data[:8]:
        check ^= value
    if not bit(0) or bit(1) or check != data[8]:
        return -1
    return int.from_bytes(bytes(data[:4]), "big")


async def watch(name, peer, track):
    count = 0
    try:
        while True:
            frame = await track.recv()
            count += 1
            if track.kind == "video" and count % 10 == 0:
                say("frames", name, count, strip(frame), f"{frame.width}x{frame.height}")
            if track.kind == "audio" and count % 50 == 0:
                say("sound", name, count)
            if track.kind == "video" and count == options.hang_up:
                say("hung-up", name)
                await peer.close()
    except MediaStreamError:
        say("over", name, track.kind)


def authorized(request):
    if options.token in (None, request.headers.get("Authorization", "").removeprefix("Bearer ")):
        return True
    say("unauthorized", request.method)
    return False


async def offered(request):
    if not authorized(request):
        return web.Response(status=401, text="a token is needed")
    if request.content_type != "application/sdp":
        return web.Response(status=415, text="an offer is application/sdp")
    if options.redirect and request.path == "/whip":
        return web.Response(status=307, headers={"Location": "elsewhere"})
    name, peer = str(next(numbers)), RTCPeerConnection()
    sessions[name] = peer

    @peer.on("track")
    def _(track):
        watches.add(asyncio.ensure_future(watch(name, peer, track)))

    peer.on("connectionstatechange", lambda: say("state", name, peer.connectionState))
    await peer.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    answer = peer.localDescription.sdp
    if options.lite:
        answer = answer.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n", 1)
    say("offered", name, request.path)
    user, password = options.login
    headers = {
        "Location": f"/session/{name}",
        "ETag": f'"{name}"',
        "Link": f'<{options.relay}>; rel="ice-server"; username="{user}"; credential="{password}"',
    }
    return web.Response(status=201, headers=headers, content_type="application/sdp", text=answer)


async def ended(request):
    peer = sessions.pop(request.match_info["name"], None)
    if not authorized(request) or peer is None:
        return web.Response(status=404)
    await peer.close()
    say("ended", request.match_info["name"])
    return web.Response()


async def main():
    app = web.Application()
    app.router.add_post("/whip", offered)
    app.router.add_post("/elsewhere", offered)
    app.router.add_delete("/session/{name}", ended)
    runner = web.AppRunner(app)
    await runner.setup()
    tls = None
    if options.tls:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.tls)
    site = web.TCPSite(runner, options.host, options.port, ssl_context=tls)
    await site.start()
    say(runner.addresses[0][1])
    await asyncio.Event().wait()


asyncio.run(main())
