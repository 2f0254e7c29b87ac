"""Leyline on the wire: the structs of `contracts` as protobuf messages of `esper.leyline.v1`, and back.

`codec.encode(message)` and `codec.decode(type, data)` are all that the rest of Esper uses; protobuf is
imported nowhere else. `contracts/leyline.proto` is the interface; `leyline_pb2.py` and `mapping.py` are
generated from it and from the structs (`make wire`), and nothing is generated unless both agree in every
name and type (`parity.py`).

What is refused, always as a `WireError` that says what and where:

- a frame above 256 KiB, before anything of it is parsed; more than 8,192 parts (messages, entries of maps,
  items of lists) in one frame, or more small ones than its size allows (`weight.py`); details nested deeper
  than 32 levels. So reading a frame of 4 KiB or more takes at most 32 times its size in memory, a smaller one
  128 KiB; most take a few times their size.
- a frame that is cut off, or whose lengths lie; text that is not UTF-8; groups; a wire type that is not the
  field's.
- unknown fields, and values that are not in an enum: version 1 is a closed list, and what we can't name we
  can't pass on unharmed. A message decoded as another's type mostly fails on this, the bus names the type
  besides.
- a singular field that is there twice, two members of a oneof, a map's key that is there twice: protobuf
  would keep the last and drop the rest.
- a `version` other than 1, also one that is missing, in the messages that have one: SystemStatePacket,
  AdaptationCommand, EmergencySignal, FieldReport and PolicyUpdate.
- a Timestamp outside the years 1 to 9999, a Duration beyond 10,000 years or with parts of both signs, a
  Value of no kind, a key of the details without a value. Within that, nanoseconds are kept, also negative
  ones.
- on the way out: numbers that do not fit, text with surrogates, wrong types, ints in details that no double
  is equal to. What `encode` gives, `decode` takes.

What is accepted, for it loses nothing: fields in any order, integers in more bytes than they need, defaults
that are written out, map entries without a key or value (they are the defaults). An integer wider than its
field is cut to it, as every protobuf reader does. A message that is not there is one with all fields 0 or
empty; only `payload`, `system_health`, `ttl` and `processing_deadline` know the difference, and are None
then. A `float` of the wire has 32 bits: a Python float is rounded to it, infinity and NaN stay themselves.

How: protobuf's C parser reads the frame, `mapping.py` reads the message. If the message, less what it did
not know, is written as that frame again, byte for byte, or else is as long as it and no map's entry
lacked anything (`twin.py`), then the frame held nothing else. Only otherwise, for an EventEnvelope
(`codec.py` says why), for frames above 16 KiB and for those that may hold very many parts, does `scan.py` go
through the bytes, slowly, to find the fault. A frame above 16 KiB can keep it busy for a tenth of a second at
the very worst, if it is made for that: let strangers' frames be judged by their signature first.
"""
