"""Vulkan devices, through libexo (include/exo/gpu.h).

libexo is the file that EXO_LIBRARY names, else the one the system finds under the name "exo".
There is no stand-in: without library, driver or device `initialize` raises and `list_devices` is
empty; `unavailable_reason` says why.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import time
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from typing import Any

from exo.gpu.backend import (GPUBackend, GPUDevice, GPUError, GPUInvalidArgumentError,
                             GPUOutOfMemoryError, GPUUnavailableError, MemoryHandle, MemoryInfo)

_ENOMEM, _EINVAL, _ENOTFOUND = -1, -2, -6


class _Error(ctypes.Structure):
    _fields_ = [("status", c_int), ("message", c_char * 240)]


class _Memory(ctypes.Structure):
    _fields_ = [("total_bytes", c_uint64), ("available_bytes", c_uint64),
                ("allocated_bytes", c_uint64), ("reserved_bytes", c_uint64),
                ("n_allocations", c_uint64)]


class _Copy(ctypes.Structure):
    _fields_ = [("dst", c_uint64), ("src", c_uint64), ("dst_offset", c_uint64),
                ("src_offset", c_uint64), ("bytes", c_uint64)]


_FUNCTIONS: dict[str, list[Any]] = {
    "exo_gpu_create": [POINTER(c_void_p)],
    "exo_gpu_devices_json": [c_void_p, POINTER(c_void_p)],
    "exo_gpu_get_memory": [c_void_p, c_uint32, POINTER(_Memory)],
    "exo_gpu_allocate": [c_void_p, c_uint32, c_uint64, POINTER(c_uint64)],
    "exo_gpu_free": [c_void_p, c_uint64],
    "exo_gpu_copy_to_device": [c_void_p, c_uint64, c_uint64, c_void_p, c_uint64],
    "exo_gpu_copy_from_device": [c_void_p, c_void_p, c_uint64, c_uint64, c_uint64],
    "exo_gpu_copy_device_to_device": [c_void_p, POINTER(_Copy)],
    "exo_gpu_synchronize": [c_void_p, c_uint32],
}


class VulkanFFI:
    """libexo's functions; a call that fails raises with libexo's message."""

    def __init__(self) -> None:
        name = os.environ.get("EXO_LIBRARY") or ctypes.util.find_library("exo")
        if name is None:
            raise GPUUnavailableError("libexo was not found: set EXO_LIBRARY to libexo.so")
        try:
            self._library = ctypes.CDLL(name)
            for function, arguments in _FUNCTIONS.items():
                f = getattr(self._library, function)
                f.argtypes, f.restype = [*arguments, POINTER(_Error)], c_int
        except (OSError, AttributeError) as error:
            raise GPUUnavailableError(f"libexo cannot be used: {error}") from error
        self._library.exo_gpu_destroy.argtypes = [c_void_p]
        self._library.exo_gpu_destroy.restype = None
        self._library.exo_gpu_free_string.argtypes = [c_void_p]
        self._library.exo_gpu_free_string.restype = None

    def call(self, function: str, *arguments: Any) -> None:
        error = _Error()
        status = getattr(self._library, function)(*arguments, byref(error))
        if status == 0:
            return
        message = error.message.decode("utf-8", "replace")
        kinds = {_ENOMEM: GPUOutOfMemoryError, _EINVAL: GPUInvalidArgumentError,
                 _ENOTFOUND: GPUInvalidArgumentError}
        raise kinds.get(status, GPUError)(message)

    def devices(self, context: c_void_p) -> list[dict[str, Any]]:
        text = c_void_p()
        self.call("exo_gpu_devices_json", context, byref(text))
        try:
            raw = ctypes.cast(text, c_char_p).value or b"{}"
            devices: list[dict[str, Any]] = json.loads(raw)["devices"]
            return devices
        finally:
            self._library.exo_gpu_free_string(text)

    def destroy(self, context: c_void_p) -> None:
        self._library.exo_gpu_destroy(context)


class VulkanGPUBackend(GPUBackend):
    def __init__(self) -> None:
        self._ffi: VulkanFFI | None = None
        self._context: c_void_p | None = None
        self._devices: list[GPUDevice] = []
        self.unavailable_reason = "initialize was not called"

    # ---- life ----

    def initialize(self) -> None:
        if self._context is not None:
            return
        try:
            self._ffi = self._ffi or VulkanFFI()
            context = c_void_p()
            try:
                self._ffi.call("exo_gpu_create", byref(context))
            except GPUError as error:
                raise GPUUnavailableError(str(error)) from error
            devices = [self._device(d) for d in self._ffi.devices(context)]
            if not devices:
                self._ffi.destroy(context)
                raise GPUUnavailableError("Vulkan is here, but no device that exo can use")
        except GPUUnavailableError as error:
            self.unavailable_reason = str(error)
            raise
        self._context, self._devices, self.unavailable_reason = context, devices, ""

    def shutdown(self) -> None:
        if self._ffi is not None and self._context is not None:
            self._ffi.destroy(self._context)
        self._context, self._devices = None, []
        self.unavailable_reason = "it was shut down"

    def __enter__(self) -> VulkanGPUBackend:
        self.initialize()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    # ---- devices ----

    @staticmethod
    def _device(d: dict[str, Any]) -> GPUDevice:
        return GPUDevice(device_id=d["device_id"], name=d["name"], vendor=d["vendor"],
                         backend="vulkan", memory_bytes=d["memory_bytes"],
                         compute_units=d["compute_units"] or None,
                         bandwidth_gbps=d["bandwidth_gbps"] or None,
                         driver_version=d["driver_version"], uuid=d["uuid"],
                         usable=d["usable"], reason=d["reason"])

    def list_devices(self) -> list[GPUDevice]:
        return list(self._devices)

    def get_device(self, device_id: str) -> GPUDevice:
        for device in self._devices:
            if device.device_id == device_id:
                return device
        raise GPUInvalidArgumentError(f"no device {device_id!r}")

    def _open(self) -> tuple[VulkanFFI, c_void_p]:
        if self._ffi is None or self._context is None:
            raise GPUUnavailableError(self.unavailable_reason)
        return self._ffi, self._context

    def _index(self, device_id: str) -> int:
        self._open()
        return self._devices.index(self.get_device(device_id))

    def _call(self, function: str, *arguments: Any) -> None:
        ffi, context = self._open()
        ffi.call(function, context, *arguments)

    def get_device_memory_info(self, device_id: str) -> MemoryInfo:
        m = _Memory()
        self._call("exo_gpu_get_memory", self._index(device_id), byref(m))
        return MemoryInfo(m.total_bytes, m.available_bytes, m.allocated_bytes, m.reserved_bytes,
                          m.n_allocations)

    def synchronize(self, device_id: str) -> None:
        self._call("exo_gpu_synchronize", self._index(device_id))

    # ---- memory ----

    @staticmethod
    def _unsigned(what: str, value: int) -> int:
        if not 0 <= value < 1 << 64:
            raise GPUInvalidArgumentError(f"{what} {value} is out of range")
        return value

    def allocate(self, device_id: str, size_bytes: int) -> MemoryHandle:
        handle = c_uint64()
        self._call("exo_gpu_allocate", self._index(device_id), self._unsigned("size", size_bytes),
                   byref(handle))
        return MemoryHandle(handle.value, device_id, size_bytes, time.time())

    def deallocate(self, handle: MemoryHandle) -> None:
        self._call("exo_gpu_free", handle.handle_id)

    def copy_to_device(self, handle: MemoryHandle, data: bytes | bytearray | memoryview,
                       offset: int = 0) -> None:
        raw = data if isinstance(data, bytes) else bytes(data)
        self._call("exo_gpu_copy_to_device", handle.handle_id, self._unsigned("offset", offset),
                   raw, len(raw))

    def copy_from_device(self, handle: MemoryHandle, size_bytes: int | None = None,
                         offset: int = 0) -> bytes:
        self._unsigned("offset", offset)
        size = handle.size_bytes - offset if size_bytes is None else size_bytes
        if not 0 <= size <= handle.size_bytes - offset:
            raise GPUInvalidArgumentError(
                f"bytes {offset} + {size} of an allocation of {handle.size_bytes}")
        buffer = ctypes.create_string_buffer(size or 1)
        self._call("exo_gpu_copy_from_device", buffer, handle.handle_id, offset, size)
        return buffer.raw[:size]

    def copy_device_to_device(self, dst: MemoryHandle, src: MemoryHandle,
                              size_bytes: int | None = None, dst_offset: int = 0,
                              src_offset: int = 0) -> None:
        size = src.size_bytes - src_offset if size_bytes is None else size_bytes
        copy = _Copy(dst.handle_id, src.handle_id, self._unsigned("offset", dst_offset),
                     self._unsigned("offset", src_offset), self._unsigned("size", size))
        self._call("exo_gpu_copy_device_to_device", byref(copy))
