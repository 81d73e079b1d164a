"""HJ 212: the protocol of Chinese monitoring loggers over TCP; editions 2005, 2017 and 2025 without its encrypted
parts.

``crc`` and ``frame`` find frames in a stream of bytes; ``packet`` reads and writes the data segment; ``codes`` holds
the printed tables; ``exchange`` makes requests and answers; ``assembly`` puts split packets together; ``readings``
turns frames into our readings. All of it is pure: the gateway, the simulated logger and ``riverchief hj212 decode``
share it.
"""
