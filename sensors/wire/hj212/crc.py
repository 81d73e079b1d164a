"""The check value of HJ 212, Appendix A, and the Modbus CRC that is often used by mistake.

Appendix A shifts the register by a byte and only then combines it with the next one, so the low byte is lost at every
step: just 256 different values exist. A single wrong character is always noticed, a random change passes one time in
256. Nothing may therefore rest on this value alone; length, syntax and ranges are checked as well.
"""

from typing import Final

_POLYNOMIAL: Final = 0xA001
_START: Final = 0xFFFF


def _shifted(register: int) -> int:
    for _ in range(8):
        register = (register >> 1) ^ _POLYNOMIAL if register & 1 else register >> 1
    return register


_TABLE: Final = tuple(_shifted(byte) for byte in range(256))


def crc16(data: bytes | bytearray | memoryview) -> int:
    """The check value of a data segment by HJ 212-2017, Appendix A; 0xFFFF for an empty one."""
    register = _START
    for byte in data:
        register = _TABLE[(register >> 8) ^ byte]
    return register


def modbus(data: bytes | bytearray | memoryview) -> int:
    """The Modbus CRC, which is not the one of HJ 212; used only to explain a wrong frame."""
    register = _START
    for byte in data:
        register = (register >> 8) ^ _TABLE[(register ^ byte) & 0xFF]
    return register
