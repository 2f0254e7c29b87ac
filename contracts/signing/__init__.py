"""Signing: who said this, is it what they said, and was it said before?

## Against whom
Whoever can reach the Redis server may read, add, repeat, reorder and delete entries, and may choose an
entry's plain fields and its stream id; they hold no secret. They must not be able to make a process take
as said what no holder of a secret said, nor act twice on what was said once. Not defended: reading,
deleting, holding back. All who hold the secret trust one another: the sender's name is what a holder
claims, and the table of who may say what guards against mistakes, not against a holder who lies.

## What is signed
The exact bytes of the envelope as they lie on the wire, preceded by a canonical header. The signature is
one short ASCII value beside the envelope:

    leyline-v1 <key id> <sender> <nonce> <ns> <mac>
    <------------------ the header ------------>
    mac = HMAC-SHA256(secret, header, its last space included, followed by the envelope), in hex

No field holds a space, so header and envelope can't be shifted against each other, and every field has one
spelling only (`header.py`), so a changed bit anywhere is a refusal. The version is signed too; it also
keeps these MACs apart from any other use of the same secret. The envelope is never encoded again to be
verified: protobuf doesn't promise the same bytes twice.

The event id and the topic are inside the envelope, which admission doesn't read. The caller compares them
after decoding with those that the entry was found under; without that the rest is worth little.

## The order of the checks
1. size, form of the header, key id known, MAC (`hmac.compare_digest`);
2. freshness, at most 60 s in either direction; may this sender say this on this topic;
3. the event id: known with other bytes? the nonce: used before? room to remember it?
4. the caller decodes, and compares what is inside with what the entry says;
5. only then the frame is remembered (`Admission.remember`), so that a copy under another id
   that is read first does not make the true one look replayed.

Nothing is remembered before 2 and 3 have passed, so whoever has no key can't make memory grow. Nor can one
who repeats valid frames: a frame is remembered once.

## Replay and redelivery are the same bytes
A bus that delivers at least once brings the same bytes again, minutes later or after the sender's key was
retired. So freshness and nonce are checked once, at admission, and the event id is remembered with
the digest of the bytes that were admitted under it:

| again comes | it is |
| --- | --- |
| the same id, envelope and signature, bit for bit | a repeat: admitted as one, not checked again |
| the same id and envelope, newly signed | a repeat, if the MAC is right |
| the same id with another envelope, the MAC right | an attack: `id_reused` |
| another id or topic with a signature used before | an attack: `replayed` |

A repeat says that the bytes were admitted here before, not that the work is done: several groups of a
process share one admission. So each group says what it is done with (`Admission.done`), and that is known by
event id for exactly as long as the frame is: what a group is done with is not given to it again, whatever
the unsigned fields beside it say and however it was signed since. Nor is it given a second time what is still
in its hands under another entry. What was forgotten is judged as if it never came, and then it is too old to
act, unless its sender has signed it anew. Left open: each process knows only what it did itself, so within
60 s a copy can reach another process of the same group.

## Memory
Ids and nonces lie in one queue, oldest first, bounded in frames (65,536). A frame's id and nonce leave
together and only when room is needed, so an id is known for at least as long as its nonce. Repeats don't
move a frame back in the queue, else one who repeats could push out what is younger. Each of the two rules
below has a queue of its own, so that a flood of telemetry can't turn commands away.

## Two rules
**ACTS** (commands, emergency signals, policy updates, every topic without a rule of its own): fresh by
this process's clock. The oldest frame is forgotten only when its freshness has run out; if it has not,
the new one is refused: `nonces_full`. A clock that is set back opens nothing: what was signed no later than
something forgotten is stale. After a restart the nonces are gone, so what was signed before this process's
birth is refused and the sender signs anew. Left open: where the clocks differ, a frame that a faster clock
dated after the birth can come in again in the first seconds. It still has its command id: work whose effect
must not double across restarts is keyed by that.

**INFORMS** (state, reports, telemetry; and every topic for who only takes down or shows what it hears): a
reader that was away for hours must be able to read what waited. So freshness lies between the signing and the
time at which the server took the entry, which the caller passes in. The window never closes by a clock, so
nonces are kept as long as there is room, and the oldest makes way: to refuse would lose true reports under
load, and protect less than it seems. For the server's time is the server's word, and after a reader's restart
its memory is empty. Left open: one who can write to the server may show an old report again, under its own id
and with its own bytes, to a reader that restarted or has read 65,536 others since; with an honest server's
stream ids, only reports that were added again within 60 s of their signing. He can't change it, nor show it
under another id (the caller's comparison). Readers book what must not double by event id: reports are.

## What the sender owes
Sign when the bytes are handed to the server, not when they are queued: what waits in an outbox or is sent
again after the server lost its data keeps its envelope and gets a new signature; so does a dead letter that
is given out once more, in the name of who signed it first; and so does what a reader can't take any longer,
as stale or from before its birth, while its sender lives and not all have settled it
(`actors/oona/redis/anew.py`). The reader waits some seconds for that before it refuses. The same id always
means the same envelope; to encode it again (a new time, another order of a map) makes it an attack.

## Rotation
Keys are known by id, the first signs and all verify, so two keys can be valid while processes are
restarted one after another: everybody learns the new one second, then first, then the old one goes, once
nothing that it signed is waiting to be read. What a process has said it alone can sign anew, so it ends when
all have heard it; what is said while it is away is signed anew for it by those who are there.

Where: `keyring.py` secrets, `header.py` the text form, `signer.py`, `rules.py` who may say what,
`memory.py` ids, nonces and what is done, `admission.py` the checks in order, `refusal.py` what can be wrong.
"""
