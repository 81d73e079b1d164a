"""SL 651-2014: the protocol of Chinese hydrological stations (level, flow, rain, quality), HEX/BCD and ASCII mode.

``crc`` and ``frame`` find frames in a stream of bytes; ``body`` reads what stands in them, by the tables of
``elements.toml``; ``answers`` makes what the centre sends back. All of it is pure: the gateway, the simulated station
and ``riverchief sl651 decode`` share it.
"""
