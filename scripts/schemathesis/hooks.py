"""MessagePack for schemathesis: the API speaks it wherever it speaks JSON."""

import datetime
import ipaddress

import msgpack
import schemathesis


def plain(value):
    """Generated values as both codecs can carry them."""
    if isinstance(value, (datetime.date, ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return str(value)
    if isinstance(value, int):
        # Over 64 bits: JSON has such numbers, MessagePack only as floats.
        return float(value) if abs(value) < 2**1000 else 2.0**1000
    raise TypeError(f"{type(value)} has no place in a body")


@schemathesis.serializer("application/msgpack")
def write(_context, value):
    return msgpack.packb(value, default=plain)


@schemathesis.deserializer("application/msgpack")
def read(_context, response):
    return msgpack.unpackb(response.content)
