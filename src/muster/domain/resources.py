"""Amounts of what nodes offer and tasks hold."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one task asks for, one node offers, or a set of workloads holds."""

    cpu_millis: int = 0  # thousandths of a CPU
    memory_mib: int = 0
    gpu_count: int = 0
    npu_count: int = 0

    @property
    def card_count(self) -> int:
        return self.gpu_count + self.npu_count

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            cpu_millis=self.cpu_millis + other.cpu_millis,
            memory_mib=self.memory_mib + other.memory_mib,
            gpu_count=self.gpu_count + other.gpu_count,
            npu_count=self.npu_count + other.npu_count,
        )

    def __mul__(self, factor: int) -> "Resources":
        return Resources(
            cpu_millis=self.cpu_millis * factor,
            memory_mib=self.memory_mib * factor,
            gpu_count=self.gpu_count * factor,
            npu_count=self.npu_count * factor,
        )

    def __sub__(self, other: "Resources") -> "Resources":
        return self + other * -1

    def fits_in(self, room: "Resources") -> bool:
        """Whether `room` has at least this much of everything."""
        return (
            self.cpu_millis <= room.cpu_millis
            and self.memory_mib <= room.memory_mib
            and self.gpu_count <= room.gpu_count
            and self.npu_count <= room.npu_count
        )

    def times_in(self, room: "Resources", *, bound: int) -> int:
        """How often `room` has this much of everything, counted up to `bound`."""
        if not self.fits_in(room):
            return 0
        amounts = (
            (self.cpu_millis, room.cpu_millis),
            (self.memory_mib, room.memory_mib),
            (self.gpu_count, room.gpu_count),
            (self.npu_count, room.npu_count),
        )
        return min([bound, *(there // asked for asked, there in amounts if asked)])
