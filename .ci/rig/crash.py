"""What a crash may and may not do: a ledger of every acknowledged write, writers that keep it, and the inspection after a restart.

An operation that was answered happened. One that was cut off happened whole or not at all. Contents are told apart by their SHA-256;
each writer owns its keys, so that the order of answers is the order of effects.
"""

import hashlib
import http.client
import random
import threading
import time
import uuid

from rig.gateway import BASE
from rig.s3 import Client, Refused

WRITERS = 4
NOTES = "-notes/"  # of no known class, so that any content may replace any other
OWN = ".snapgate/"  # what the gateway keeps for itself in a store
OWN_AT_REST = 1 << 18  # bytes of it that are no sign of a leak
KEYS_EACH = 40  # past this a writer deletes more than it adds, so that listings stay short over any number of cycles
ABSENT = None


class Loss(AssertionError):
    """What was acknowledged is not there, or what was not shows."""


class Ledger:
    """key -> the contents it may have: one when certain, several while an operation on it has no answer."""

    def __init__(self):
        self._may, self._ever, self._owner, self._lock = {}, {}, {}, threading.Lock()
        self.touched, self.unanswered, self.acknowledged, self.complaints = set(), set(), 0, []
        self.dark = False
        self.deleted = set()  # their bytes may stay in the store for a while, shown to nobody
        self.orphans = set()  # write-once names whose write was cut off between the store and the catalog: allowed to lie there

    def begin(self, owner, effects):
        """`effects`: key -> (hash, size) or ABSENT."""
        with self._lock:
            for key, content in effects.items():
                self._owner[key] = owner
                self._ever.setdefault(key, {ABSENT}).add(content)
                self._may[key] = self._may.get(key, {ABSENT}) | {content}
                self.touched.add(key)
                self.unanswered.add(key)
                if content is ABSENT:
                    self.deleted.add(key)

    def lights_out(self):
        """The power fails now: the program lives on in the rig for some milliseconds, but nobody would have got its answers."""
        with self._lock:
            self.dark = True

    def answered(self, effects):
        with self._lock:
            if self.dark:
                return
            self.acknowledged += 1
            for key, content in effects.items():
                self._may[key] = {content}
                self.unanswered.discard(key)

    def ever(self, key):
        """Every content this key had or was about to have: what a reader in the middle of it all may see."""
        with self._lock:
            return set(self._ever[key])

    def complain(self, what):
        with self._lock:
            self.complaints.append(what)

    def keys(self):
        return list(self._may)

    def recent(self):
        with self._lock:
            return [key for key in self.touched if key in self._ever]

    def owned_by(self, owner):
        return [key for key in self._may if self._owner[key] == owner]

    def may(self, key):
        return self._may[key]

    def found(self, key, content):
        """After an inspection the outcome of an unanswered operation is known and must not change again."""
        if content is ABSENT:
            del self._may[key], self._owner[key], self._ever[key]
        else:
            self._may[key] = {content}

    def next_cycle(self):
        self.touched, self.unanswered, self.dark = set(), set(), False


def content_of(body):
    return hashlib.sha256(body).hexdigest(), len(body)


class Writer(threading.Thread):
    """Writes as clusters do, until its connection breaks."""

    def __init__(self, account, ledger, name, seed, stop):
        super().__init__(daemon=True)
        self._account, self._ledger, self._name = account, ledger, name
        self._random, self._over, self._mine = random.Random(seed), stop, ledger.owned_by(name)

    def run(self):
        client = Client(self._account, timeout=20)
        try:
            while not self._over.is_set():
                self._one(client)
        except (http.client.HTTPException, OSError):
            pass  # the gateway is gone; what was asked last stays unanswered
        except Refused as refused:
            if refused.status < 500:
                self._ledger.complain(f"{self._name}: {refused}")
        finally:
            client.close()

    def _blob(self):
        dice = self._random
        size = dice.choice((1, 300, 4_096, 4_096, 20_000, 70_000, 262_144, 1_100_000))
        return dice.randbytes(size)

    def _key(self):
        dice = self._random
        name = str(uuid.UUID(int=dice.getrandbits(128)))
        return f"{BASE}/" + dice.choice((f"indices/{self._name}-index/0/__{name}", f"indices/{self._name}-index/1/snap-{name}.dat",
                                         f"meta-{name}.dat", f"{self._name}{NOTES}{name}"))

    def _one(self, client):
        dice, roll = self._random, self._random.random()
        if self._mine and (roll < 0.15 or len(self._mine) > KEYS_EACH):
            gone = [self._mine.pop(dice.randrange(len(self._mine))) for _ in range(min(len(self._mine), dice.choice((1, 1, 5))))]
            self._tell({key: ABSENT for key in gone}, lambda: client.delete(gone[0]) if len(gone) == 1 else client.delete_many(gone))
        elif roll < 0.30 and any(NOTES in key for key in self._mine):
            key, body = dice.choice([key for key in self._mine if NOTES in key]), self._blob()
            self._tell({key: content_of(body)}, lambda: client.put(key, body))
        elif roll < 0.36:
            key, parts = self._key(), [dice.randbytes(5 << 20), self._blob()]
            self._tell({key: content_of(b"".join(parts))}, lambda: client.put_parts(key, parts))
            self._mine.append(key)
        else:
            key, body = self._key(), self._blob()
            self._tell({key: content_of(body)}, lambda: client.put(key, body))
            self._mine.append(key)

    def _tell(self, effects, request):
        self._ledger.begin(self._name, effects)
        request()
        self._ledger.answered(effects)


class Reader(threading.Thread):
    """Reads what is being written: whole contents only, whichever of them."""

    def __init__(self, account, ledger, seed, stop):
        super().__init__(daemon=True)
        self._account, self._ledger, self._random, self._over = account, ledger, random.Random(seed), stop

    def run(self):
        client = Client(self._account, timeout=20)
        try:
            while not self._over.is_set():
                keys = self._ledger.recent()
                if not keys:
                    time.sleep(0.005)
                    continue
                self._look_at(client, self._random.choice(keys))
        except (http.client.HTTPException, OSError):
            pass
        finally:
            client.close()

    def _look_at(self, client, key):
        try:
            content = content_of(client.get(key))
        except Refused as refused:
            if refused.status == 404:
                return
            if refused.status < 500:
                self._ledger.complain(f"reading {key}: {refused}")
            return
        if content not in self._ledger.ever(key):
            self._ledger.complain(f"{key}: a reader saw {content}, which nobody wrote")


class Storm:
    """Some writers and a reader at once, against one gateway that is about to be killed."""

    def __init__(self, account, ledger, seed):
        self._over = threading.Event()
        self._threads = [Writer(account, ledger, f"w{number}", seed * WRITERS + number, self._over) for number in range(WRITERS)]
        self._threads.append(Reader(account, ledger, seed, self._over))
        for thread in self._threads:
            thread.start()

    def end(self):
        """Waits for the clients, which the death of the gateway sends home."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                raise AssertionError("a client hangs on a dead gateway")


def inspect(account, ledger, stored, every_key):
    """Compares what the gateway shows, and what lies in the store (`stored`: key -> size), with the ledger; raises with all that is wrong."""
    if ledger.complaints:
        raise AssertionError("while it wrote and read: " + "\n".join(ledger.complaints[:20]))
    client, wrong = Client(account), []
    stored = {key: size for key, size in stored.items() if not key.startswith(OWN)}
    shown = client.list(f"{BASE}/")
    for key in sorted(shown.keys() - set(ledger.keys())):
        wrong.append(f"listed, though never written or long deleted: {key}")
    for key in ledger.keys():
        may = ledger.may(key)
        if not (every_key or key in ledger.touched):
            content = next(iter(may))
            if shown.get(key) != (content[1] if content else None):
                wrong.append(f"{key}: listed with {shown.get(key)}, acknowledged as {content}")
            continue
        content = _read(client, key)
        if (content is ABSENT) != (key not in shown):
            wrong.append(f"{key}: listed is {key in shown}, but reading it gives {content}")
        if content not in may:
            wrong.append(f"{key}: is {content}, may be {may}")
        elif content and shown.get(key) != content[1]:
            wrong.append(f"{key}: listed with {shown.get(key)} bytes, has {content[1]}")
        ledger.found(key, content)
    client.close()
    for key, size in shown.items():
        if stored.get(key) != size:
            wrong.append(f"{key}: {size} bytes in the catalog, {stored.get(key)} in the store")
    for key in sorted(stored.keys() - shown.keys()):
        if key not in ledger.orphans | ledger.deleted and not ("/__" in key and key in ledger.unanswered):
            wrong.append(f"{key}: in the store, not in the catalog, and not a write-once name whose write was cut off")
    ledger.orphans = stored.keys() - shown.keys() - ledger.deleted
    ledger.deleted = (ledger.deleted & stored.keys()) - shown.keys()  # a delete that was cut off may not have happened
    if wrong:
        raise Loss(f"{len(wrong)} broken:\n" + "\n".join(wrong[:20]))
    ledger.next_cycle()


def come_to_rest(ledger, stored, seconds=90):
    """Waits until the store holds objects and a little of the gateway's own: no deleted, replaced or unfinished bytes."""
    deadline = time.monotonic() + seconds
    while True:
        lies = stored()
        deleted, own = ledger.deleted & lies.keys(), {key: size for key, size in lies.items() if key.startswith(OWN)}
        if not deleted and sum(own.values()) < OWN_AT_REST:
            return
        if time.monotonic() > deadline:
            largest = sorted(own, key=own.get, reverse=True)[:5]
            raise AssertionError(f"after {seconds} s {len(deleted)} deleted objects still lie in the store: {sorted(deleted)[:5]}; "
                                 f"and {sum(own.values())} bytes under {OWN}: {largest}")
        time.sleep(0.5)


def _read(client, key):
    """The content of a key, ABSENT, or what the gateway answered instead."""
    try:
        return content_of(client.get(key))
    except Refused as refused:
        return ABSENT if refused.status == 404 else (f"refused: {refused}", None)
