"""What every GPU backend offers to Python, and the records it speaks in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


class GPUError(RuntimeError):
    """A device, driver or argument refused; the message says what, where and why."""


class GPUUnavailableError(GPUError):
    """This machine has no such backend: no library, no driver or no device."""


class GPUOutOfMemoryError(GPUError):
    """The allocation does not fit; the message has the numbers."""


class GPUInvalidArgumentError(GPUError, ValueError):
    """A handle that names nothing, a range beyond its allocation, an unknown device."""


@dataclass(frozen=True)
class GPUDevice:
    """One device. A figure that nobody tells is None, never guessed."""

    device_id: str
    name: str
    vendor: str
    backend: str
    memory_bytes: int
    compute_units: int | None
    bandwidth_gbps: float | None
    driver_version: str
    uuid: str
    usable: bool
    reason: str


@dataclass(frozen=True)
class MemoryHandle:
    handle_id: int
    device_id: str
    size_bytes: int
    allocated_at: float


@dataclass(frozen=True)
class MemoryInfo:
    total_bytes: int
    available_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    allocations: int


class GPUBackend(ABC):
    """Memory of the devices of one kind. All methods may be called from any thread."""

    @abstractmethod
    def initialize(self) -> None:
        """Raises GPUUnavailableError, with the reason, where the backend cannot work."""

    @abstractmethod
    def shutdown(self) -> None:
        """Frees everything; initialize may follow."""

    @abstractmethod
    def list_devices(self) -> list[GPUDevice]:
        """Empty before initialize, and where it failed."""

    @abstractmethod
    def get_device(self, device_id: str) -> GPUDevice: ...

    @abstractmethod
    def allocate(self, device_id: str, size_bytes: int) -> MemoryHandle: ...

    @abstractmethod
    def deallocate(self, handle: MemoryHandle) -> None: ...

    @abstractmethod
    def copy_to_device(self, handle: MemoryHandle, data: bytes | bytearray | memoryview,
                       offset: int = 0) -> None: ...

    @abstractmethod
    def copy_from_device(self, handle: MemoryHandle, size_bytes: int | None = None,
                         offset: int = 0) -> bytes: ...

    @abstractmethod
    def copy_device_to_device(self, dst: MemoryHandle, src: MemoryHandle,
                              size_bytes: int | None = None, dst_offset: int = 0,
                              src_offset: int = 0) -> None: ...

    @abstractmethod
    def synchronize(self, device_id: str) -> None: ...

    @abstractmethod
    def get_device_memory_info(self, device_id: str) -> MemoryInfo: ...

    def get_device_temperature(self, device_id: str) -> float | None:
        """Celsius; None without a sensor."""
        self.get_device(device_id)
        return None

    def get_device_power_usage(self, device_id: str) -> float | None:
        """Watts; None without a sensor."""
        self.get_device(device_id)
        return None

    def get_device_clock_rate(self, device_id: str) -> float | None:
        """MHz; None where nobody tells."""
        self.get_device(device_id)
        return None
