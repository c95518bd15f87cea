"""A node made of Python that holds the cluster's key and says what a test wants it to: beacons, a
hello, frames.  For peers that are wrong and yet belong to the cluster.

TLS 1.3 with a pre-shared key and its exporter are not in Python's ssl; OpenSSL is called itself.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import hmac
import json
import os
import select
import socket
import struct
import threading
import time
from typing import Any

import pytest
from conftest import KEY

BEACON_PORT = 52417
HELLO, PING, PONG, BYE, NODES, TELEMETRY = 1, 2, 3, 4, 5, 9
MASK = (1 << 64) - 1
K0, K1 = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
ED25519 = 1087
TLS_1_3 = 0x0304
WANT_READ, WANT_WRITE = 2, 3


def cluster_key(passphrase: str = KEY, namespace: str = "default") -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=b"exo cluster key 1:" + namespace.encode(),
                          n=32768, r=8, p=1, maxmem=64 << 20, dklen=32)


def _mix(h: int) -> int:
    for _ in range(2):
        h = (h ^ h >> 32) * K1 & MASK
    return h ^ h >> 32


def hash64(data: bytes, seed: int) -> int:
    """src/base/hash64.c, in other words."""
    h = [seed ^ K0, (seed + K0) & MASK, seed ^ K1, (seed + K1) & MASK]
    whole = len(data) // 32 * 32
    for at in range(0, whole, 32):
        for i, word in enumerate(struct.unpack_from("<4Q", data, at)):
            h[i] = (h[i] ^ word) * K0 & MASK
            h[i] ^= h[i] >> 29
    for i, word in enumerate(struct.unpack("<4Q", data[whole:].ljust(32, b"\0"))):
        h[i] = (h[i] ^ word) * K0 & MASK
    sums = [_mix((x + y) & MASK) for x, y in zip(h, (len(data), 1, 2, 3))]
    return _mix(sums[0] ^ sums[1] ^ sums[2] ^ sums[3])


def frame(kind: int, header: bytes = b"", body: bytes = b"", seq: int = 0) -> bytes:
    head = struct.pack("<4sHHIIQII", b"EXO1", 1, kind, 1 if header else 0, 0, seq, len(header),
                       len(body))
    h = hash64(head, 0)
    for part in (header, body):
        h = hash64(part, h) if part else h
    return head + struct.pack("<Q", h) + header + body


# ---- OpenSSL ----

PSK_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p,
                                ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint)


def library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(f"lib{name}.so.3")
    except OSError:
        pytest.skip(f"no lib{name}.so.3 here: wrong peers are not tested")


def functions(name: str, **results: Any) -> ctypes.CDLL:
    lib = library(name)
    for function, result in results.items():
        getattr(lib, function).restype = result
    return lib


class Key:
    """An Ed25519 key pair."""

    def __init__(self) -> None:
        self.lib = functions("crypto", EVP_PKEY_new_raw_private_key=ctypes.c_void_p,
                             EVP_MD_CTX_new=ctypes.c_void_p)
        secret = os.urandom(32)
        self.pkey = ctypes.c_void_p(self.lib.EVP_PKEY_new_raw_private_key(
            ED25519, None, secret, ctypes.c_size_t(32)))
        public, n = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
        assert self.lib.EVP_PKEY_get_raw_public_key(self.pkey, public, ctypes.byref(n)) == 1
        self.public = public.raw
        self.node_id = hashlib.sha256(self.public).hexdigest()[:16]

    def sign(self, message: bytes) -> bytes:
        ctx = ctypes.c_void_p(self.lib.EVP_MD_CTX_new())
        out, n = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        assert self.lib.EVP_DigestSignInit(ctx, None, None, None, self.pkey) == 1
        assert self.lib.EVP_DigestSign(ctx, out, ctypes.byref(n), message,
                                       ctypes.c_size_t(len(message))) == 1
        self.lib.EVP_MD_CTX_free(ctx)
        return out.raw


class Tls:
    """The side that dialled, over a connected socket."""

    def __init__(self, s: socket.socket, key: bytes):
        self.lib = functions("ssl", TLS_client_method=ctypes.c_void_p, SSL_CTX_new=ctypes.c_void_p,
                             SSL_new=ctypes.c_void_p)
        self.crypto = library("crypto")
        self.socket, self.key = s, key
        ctx = ctypes.c_void_p(self.lib.SSL_CTX_new(ctypes.c_void_p(self.lib.TLS_client_method())))
        self.lib.SSL_CTX_ctrl(ctx, 123, ctypes.c_long(TLS_1_3), None)  # the least version
        self.callback = PSK_CALLBACK(self._offer)  # kept: OpenSSL calls it
        self.lib.SSL_CTX_set_psk_client_callback(ctx, self.callback)
        self.ssl = ctypes.c_void_p(self.lib.SSL_new(ctx))
        self.lib.SSL_set_fd(self.ssl, s.fileno())
        if self.lib.SSL_connect(self.ssl) != 1:
            raise OSError("the handshake failed")
        s.setblocking(False)
        self.lock = threading.Lock()  # one call at a time

    def _offer(self, _ssl: int, _hint: bytes, identity: int, max_identity: int, psk: int,
               max_psk: int) -> int:
        name = b"exo-1\0"
        assert len(name) <= max_identity and len(self.key) <= max_psk
        ctypes.memmove(identity, name, len(name))
        ctypes.memmove(psk, self.key, len(self.key))
        return len(self.key)

    def exporter(self) -> bytes:
        label = b"EXPORTER-exo-identity"
        out = ctypes.create_string_buffer(32)
        assert self.lib.SSL_export_keying_material(
            self.ssl, out, ctypes.c_size_t(32), label, ctypes.c_size_t(len(label)), None,
            ctypes.c_size_t(0), 0) == 1
        return out.raw

    def _retry(self, call: Any) -> int:
        """The call's result once the socket lets it go through."""
        while True:
            with self.lock:
                self.crypto.ERR_clear_error()
                n = int(call())
                why = self.lib.SSL_get_error(self.ssl, n) if n <= 0 else 0
            if why not in (0, WANT_READ, WANT_WRITE):
                raise OSError("the link is closed")
            if why == 0:
                return n
            select.select([self.socket] if why == WANT_READ else [],
                          [self.socket] if why == WANT_WRITE else [], [], 0.5)

    def send(self, data: bytes) -> None:
        self._retry(lambda: self.lib.SSL_write(self.ssl, data, len(data)))

    def receive(self) -> bytes:
        buffer = ctypes.create_string_buffer(65536)
        n = self._retry(lambda: self.lib.SSL_read(self.ssl, buffer, len(buffer)))
        return buffer.raw[:n]


# ---- the node ----

class Peer:
    """Dials host:port and says hello; then answers pings until close().  `hello` replaces members
    of its hello."""

    def __init__(self, host: str, port: int, name: str = "liar", hello: Any = None):
        self.identity, self.name, self.heard = Key(), name, b""
        self.bye: str | None = None
        self.lock, self.ended = threading.Lock(), threading.Event()  # a frame goes out whole
        self.socket = socket.create_connection((host, port), 30)
        self.socket.settimeout(None)
        self.tls = Tls(self.socket, cluster_key())
        self.say_hello(hello or {})
        self.tell(NODES, {"peers": []})  # the first frame makes it a control link
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def node_id(self) -> str:
        return self.identity.node_id

    def say_hello(self, others: Any) -> None:
        signature = self.identity.sign(self.tls.exporter() + b"C")
        self.tell(HELLO, {
            "node_id": self.node_id, "name": self.name, "public_key": self.identity.public.hex(),
            "signature": signature.hex(), "protocol": {"min": 1, "max": 1}, "version": "0.1.0",
            "listen": None, "run": os.urandom(8).hex(), **others})

    def tell(self, kind: int, header: Any) -> None:
        """A frame with a JSON header; text goes out as it is."""
        text = header if isinstance(header, str) else json.dumps(header)
        self.send(frame(kind, text.encode()))

    def telemetry(self, kind: str, payload: Any) -> None:
        self.tell(TELEMETRY, {"type": kind, "version": "1.0", "timestamp": time.time(),
                              "payload": payload})

    def send(self, data: bytes) -> None:
        with self.lock:
            self.tls.send(data)

    def _serve(self) -> None:
        try:
            while True:
                self.heard += self.tls.receive()
                self._take_frames()
        except OSError:
            self.ended.set()

    def _take_frames(self) -> None:
        while len(self.heard) >= 12:
            if self.heard[:1] == b"s":
                kind, flags, n = self.heard[1], self.heard[2], 12 + self.heard[3]
                (seq,) = struct.unpack_from("<I", self.heard, 4)
                header = b""
            elif len(self.heard) >= 40:
                _, _, kind, flags, _, seq, n_header, n_body = struct.unpack_from(
                    "<4sHHIIQII", self.heard)
                n, header = 40 + n_header + n_body, self.heard[40:40 + n_header]
            else:
                return
            if len(self.heard) < n:
                return
            self.heard = self.heard[n:]
            if kind == PING and not flags & 2:
                self.send(frame(PONG, seq=seq))
            if kind == BYE:
                self.bye = json.loads(header)["reason"]

    def close(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed already
        self.thread.join(10)


def beacon(node_id: str, name: str, protocol: tuple[int, int] = (1, 1), port: int = 52416,
           version: str = "9.9.9") -> bytes:
    """An announcement as a member of the cluster makes it."""
    key = cluster_key()
    tag = hmac.digest(key, b"exo beacon tag 1", "sha256")[:8]
    text = (name.encode() + version.encode()).ljust(64, b"\0")
    data = struct.pack("<4sBBBB8s4sHH8sQQQQHBB64s", b"EXOB", 1, 1, 0, len(name), tag,
                       hashlib.sha256(b"default").digest()[:4], *protocol, bytes.fromhex(node_id),
                       int.from_bytes(os.urandom(8), "little"), 1, int(time.time() * 1000), 0,
                       port, len(version), 0, text)
    mac = hmac.digest(hmac.digest(key, b"exo beacon mac 1", "sha256"), data, "sha256")
    return data + mac[:16]
