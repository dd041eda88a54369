"""The client peer of webrtc-echoes' tests, on aiortc: client.py URL peer|data. Ends with 0 if all went well.

peer: an offer of a picture and a sound is posted, the connection comes about, and both come back.
data: an offer of a data channel is posted, and a random string sent by it comes back on the same channel.
"""

import asyncio
import json
import random
import string
import sys
import urllib.error
import urllib.request

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

PATIENCE = 20  # seconds, for everything together


def post(url, description):
    body = json.dumps({"sdp": description.sdp, "type": description.type}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return RTCSessionDescription(**json.load(response))
    except urllib.error.HTTPError as error:
        sys.exit(f"{error}: {error.read().decode()}")


async def connect(peer, url):
    is_connected = asyncio.get_running_loop().create_future()

    @peer.on("connectionstatechange")
    def changed():
        if peer.connectionState == "connected" and not is_connected.done():
            is_connected.set_result(None)

    await peer.setLocalDescription(await peer.createOffer())
    answer = await asyncio.to_thread(post, url, peer.localDescription)
    await peer.setRemoteDescription(answer)
    await is_connected
    print("connected", flush=True)


async def test_peer(peer, url):
    tracks = asyncio.Queue()
    peer.on("track", tracks.put_nowait)
    peer.addTrack(AudioStreamTrack())
    peer.addTrack(VideoStreamTrack())
    await connect(peer, url)
    for _ in range(2):
        track = await tracks.get()
        for _ in range(10):
            frame = await track.recv()
        print("came back:", track.kind, frame)
        if track.kind == "video" and (frame.width, frame.height) != (640, 480):
            raise ValueError("not the picture that was sent")


async def test_data(peer, url):
    # Debian's aiortc is old enough to describe data channels as Chrome did before 2019, unless it is told not to.
    peer._sctpLegacySdp = False
    channel = peer.createDataChannel("echo")
    sent = "".join(random.choices(string.ascii_letters, k=5))
    came = asyncio.get_running_loop().create_future()
    channel.on("open", lambda: channel.send(sent))
    channel.on("message", lambda message: came.done() or came.set_result(message))
    await connect(peer, url)
    message = await came
    print("sent", sent, "came back:", message)
    if message != sent:
        raise ValueError("not what was sent")


async def main(url, test):
    peer = RTCPeerConnection()
    try:
        await asyncio.wait_for({"peer": test_peer, "data": test_data}[test](peer, url), PATIENCE)
    finally:
        await asyncio.wait_for(peer.close(), 5)


asyncio.run(main(sys.argv[1], sys.argv[2]))
