"""A TCP link to a server that can be made slow, cut in the middle of what it carries, and healed.

A cut resets every connection and refuses new ones. Nothing that was carried before it is lost, nothing after it arrives; what the server
had read in full it may still answer, into nowhere.
"""

import contextlib
import random
import socket
import struct
import threading
import time

from rig.process import free_port

CHUNK = 16 << 10  # the most that passes a slow link at once
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Link:
    def __init__(self, bench, port, seen=lambda _: None):
        """`seen` is told of every piece before it goes to the server, and holds it for as long as it takes."""
        self.port, self._to, self._seen = free_port(), port, seen
        self._lock, self._pairs, self._whole = threading.Lock(), set(), threading.Event()
        self._whole.set()
        self._left, self._fell = None, threading.Event()  # bytes until an armed cut; that it fell
        self._rate, self._due = None, 0.0
        self.carried, self.cuts_in_mid_body = 0, 0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        bench.on_end(self._listener.close)
        threading.Thread(target=self._serve, daemon=True).start()

    def throttle(self, rate):
        """Bytes per second towards the server; None: as fast as it goes."""
        with self._lock:
            self._rate, self._due = rate, time.monotonic()

    def cut(self):
        with self._lock:
            self._whole.clear()
            pairs, self._pairs, self._left = self._pairs, set(), None
        for pair in pairs:
            for one in pair:
                _reset(one)
        self._fell.set()

    def cut_after(self, count, patience):
        """Cuts when that many bytes more have gone to the server, or when `patience` (seconds) is over; returns when it is cut."""
        self._fell.clear()
        with self._lock:
            self._left = count
        if self._fell.wait(patience):
            self.cuts_in_mid_body += 1
        else:
            self.cut()

    def heal(self):
        self._whole.set()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed at the end of the check
                return
            if not self._whole.is_set():
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._to), timeout=5)
            except OSError:  # the server is down
                _reset(client)
                continue
            server.settimeout(None)
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._carry, args=(pair, client, server, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(pair, server, client, False), daemon=True).start()

    def _carry(self, pair, source, sink, counted):
        try:
            while data := source.recv(CHUNK):
                if counted:
                    self._seen(data)
                    self._wait_for(len(data))
                    data, last = self._allowed(data)
                    sink.sendall(data)
                    if last:
                        self.cut()
                        return
                else:
                    sink.sendall(data)
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            for one in pair:
                _reset(one)
        finally:
            with self._lock:
                self._pairs.discard(pair)

    def _allowed(self, data):
        """What of it passes before an armed cut, and whether the cut is due then."""
        with self._lock:
            self.carried += len(data)
            if self._left is None:
                return data, False
            passes = data[: self._left]
            self._left -= len(passes)
            return passes, self._left == 0

    def _wait_for(self, count):
        with self._lock:
            if self._rate is None:
                return
            self._due = max(self._due, time.monotonic() - 0.1) + count / self._rate
            due = self._due
        time.sleep(max(0.0, due - time.monotonic()))


def _reset(one):
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.shutdown(socket.SHUT_RDWR)  # wakes who reads it
    with contextlib.suppress(OSError):
        one.close()


def sizes(dice: random.Random):
    """How many bytes pass before a cut: from within a head to within a large object."""
    return dice.choice((dice.randint(1, 600), dice.randint(600, 20_000), dice.randint(20_000, 400_000)))
