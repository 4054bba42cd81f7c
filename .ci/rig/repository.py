"""Does a store alone hold a repository that restores? Read from its files, by the repository's own documents.

It shares no line with the gateway: roots are read as JSON, metadata through its frame, CRC and SMILE, data files by their length, by the
Lucene footer in their last 16 bytes and by the checksum that the snapshot names. What is asked is more than a restore needs: also the
shard indexes from which the next snapshot and the next delete go on. (Layout of OpenSearch and of Elasticsearch 7.6 and later: shard
generations in the root, write-once data names.)
"""

import json
import os
import pathlib
import re
import struct
import zlib

from rig import smile

MAGIC, FOOTER = b"\x3f\xd7\x6c\x17", b"\xc0\x28\x93\xe8\0\0\0\0"
DEFLATED, ZSTD = b"DFL\0", b"ZSTD\0"
SUCCESS = 1
OWN = (".snapgate", ".sgwtmp")  # the gateway's own below a store's top folder, and versitygw's hidden uploads


class Broken(Exception):
    pass


def newest_root(folder):
    """(generation, parsed) of the newest root in a repository's folder; (None, None): there is no root yet."""
    generation = max(generations(folder), default=None)
    if generation is None:
        return None, None
    try:
        return generation, json.loads((pathlib.Path(folder) / f"index-{generation}").read_bytes())
    except ValueError as error:
        raise Broken(f"index-{generation} does not parse: {error}") from None


def generations(folder):
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [int(name[6:]) for name in names if re.fullmatch(r"index-\d+", name)]


def succeeded(root):
    """Names of the snapshots that are whole."""
    return [one["name"] for one in root["snapshots"] if one["state"] == SUCCESS]


def check(folder):
    """The generation of the newest root, after all that its snapshots need was read and compared; raises Broken with what is missing first.

    None: no root is there yet."""
    generation, root = newest_root(folder)
    _pointer(pathlib.Path(folder))
    if generation is not None:
        _Closure(pathlib.Path(folder), root).check()
    return generation


def verdict(folder):
    """What is wrong, or None."""
    try:
        check(folder)
    except Broken as broken:
        return str(broken)
    return None


def _pointer(folder):
    path = folder / "index.latest"
    if not path.exists():
        return
    named = int.from_bytes(path.read_bytes(), "big")
    if path.stat().st_size != 8 or not (folder / f"index-{named}").exists():
        raise Broken(f"index.latest names index-{named}, which is not there")


def _read(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Broken(f"missing: {path}") from None


def document(path):
    """A framed document: header, body (as it is or deflated), footer with the CRC of all before it."""
    data = _read(path)
    if data[:4] != MAGIC or data[-16:-8] != FOOTER or struct.unpack(">Q", data[-8:])[0] != zlib.crc32(data[:-8]):
        raise Broken(f"frame or checksum broken: {path}")
    body = data[9 + data[4] : -16]  # magic, length of the codec's name, the name, version
    if body.startswith(ZSTD):
        raise Broken(f"compressed with zstd, which this reader does not know: {path}")
    if body.startswith(DEFLATED):
        body = zlib.decompressobj(-15).decompress(body[len(DEFLATED) :])
    try:
        return smile.parse(body)
    except smile.Malformed as error:
        raise Broken(f"{path}: {error}") from None


class _Closure:
    def __init__(self, folder, root):
        self._folder, self._root = folder, root
        self._seen = set()  # data files already compared: many snapshots share them

    def check(self):
        snapshots = {one["uuid"]: one for one in self._root["snapshots"]}
        partial = {}
        for uuid in snapshots:
            info = document(self._folder / f"snap-{uuid}.dat")["snapshot"]
            partial[uuid] = {(one["index"], one["shard_id"]) for one in info["failures"]}
            document(self._folder / f"meta-{uuid}.dat")
        for name, index in self._root["indices"].items():
            if index.get("shard_path_type", 0):
                raise Broken(f"index {name} has hashed paths, which this reader does not know")
            self._index(name, index, snapshots, partial)

    def _index(self, name, index, snapshots, partial):
        folder, most = self._folder / "indices" / index["id"], 0
        for uuid in index["snapshots"]:
            shards = self._shards(folder, index, snapshots[uuid])
            most = max(most, shards)
            for shard in range(shards):
                path = folder / str(shard) / f"snap-{uuid}.dat"
                if not path.exists() and (name, shard) in partial[uuid]:
                    continue
                self._files(path.parent, document(path)["files"])
        listed = index.get("shard_generations", [])
        for shard, generation in enumerate(listed[:most]):
            if generation not in (None, "_new"):
                path = folder / str(shard) / f"index-{generation}"
                self._files(path.parent, document(path)["files"])

    def _shards(self, folder, index, snapshot):
        identifier = snapshot.get("index_metadata_lookup", {}).get(index["id"])
        blob = self._root["index_metadata_identifiers"][identifier] if identifier else snapshot["uuid"]
        (metadata,) = document(folder / f"meta-{blob}.dat").values()
        return int(metadata["settings"]["index.number_of_shards"])

    def _files(self, folder, files):
        for one in files:
            if one["name"].startswith("v__") or (folder, one["name"]) in self._seen:
                continue
            self._seen.add((folder, one["name"]))
            data = self._content(folder, one)
            if len(data) != one["length"]:
                raise Broken(f"{folder / one['name']} has {len(data)} bytes, not {one['length']}")
            if data[-16:-8] != FOOTER or not zlib.crc32(data[:-8]) == struct.unpack(">Q", data[-8:])[0] == int(one["checksum"], 36):
                raise Broken(f"{folder / one['name']}: the bytes do not have the checksum that the snapshot names")

    @staticmethod
    def _content(folder, one):
        size = one.get("part_size") or one["length"]
        parts = max(1, -(-one["length"] // size)) if size else 1
        if parts == 1:
            return _read(folder / one["name"])
        return b"".join(_read(folder / f"{one['name']}.part{number}") for number in range(parts))


def files(store, base):
    """key below the base path -> size, of everything that clusters put there."""
    top, found = os.path.join(store, base), {}
    for path, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in OWN]
        for name in names:
            file = os.path.join(path, name)
            found[os.path.relpath(file, top)] = os.path.getsize(file)
    return found
