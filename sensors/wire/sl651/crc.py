"""The check value of SL 651: polynomial x¹⁶+x¹⁵+x²+1, reflected, from FFFF, high byte sent first."""

from sensors.wire.hj212.crc import modbus


def crc16(data: bytes | bytearray | memoryview) -> int:
    """The check value of everything from the start to the end character; 4B37 for ``123456789``.

    The register is that of Modbus, which sends its low byte first.
    """
    return modbus(data)
