"""A reader of SMILE (https://github.com/FasterXML/smile-format-specification), the binary JSON of repository metadata.

Written from the specification for the checks alone, so that what the gateway believes of a repository is judged by something that shares
no line with it.
"""

HEADER = b":)\n"


class Malformed(ValueError):
    pass


def parse(data):
    """The one value of a document: dicts, lists, texts, numbers, bytes, booleans, None."""
    if data[:3] != HEADER or len(data) < 4:
        raise Malformed("no SMILE header")
    reader = _Reader(data, names=bool(data[3] & 1), values=bool(data[3] & 2))
    try:
        return reader.value(reader.byte())
    except (IndexError, UnicodeDecodeError) as error:
        raise Malformed(f"ends or breaks at byte {reader.at}: {error}") from None


class _Shared:
    """Texts that were written before and may be referred to: at most 1,024, then it begins anew."""

    def __init__(self, on):
        self._on, self._seen = on, []

    def add(self, text, size):
        if self._on and size <= 64:
            if len(self._seen) == 1024:
                self._seen = []
            self._seen.append(text)
        return text

    def get(self, number):
        return self._seen[number]


class _Reader:
    def __init__(self, data, names, values):
        self._data, self.at = data, 4
        self._names, self._values = _Shared(names), _Shared(values)

    def byte(self):
        self.at += 1
        return self._data[self.at - 1]

    def _take(self, count):
        self.at += count
        if self.at > len(self._data):
            raise IndexError("past the end")
        return self._data[self.at - count : self.at]

    def _until_fc(self):
        end = self._data.index(b"\xfc", self.at) if b"\xfc" in self._data[self.at :] else len(self._data)
        text = self._take(end - self.at).decode()
        self._take(1)
        return text

    def _unsigned(self):
        number = 0
        while True:
            byte = self.byte()
            if byte & 0x80:
                return number << 6 | byte & 0x3F
            number = number << 7 | byte

    def _signed(self):
        number = self._unsigned()
        return number >> 1 ^ -(number & 1)

    def _seven_bits(self):
        """Bytes packed seven bits to a byte; the last one right-aligned."""
        size = self._unsigned()
        whole, rest = divmod(size, 7)
        out = bytearray()
        for count in [7] * whole + ([rest] if rest else []):
            number = 0
            packed = self._take(count + 1)
            for byte in packed[:-1]:
                number = number << 7 | byte
            last_bits = 7 if count == 7 else count
            number = number << last_bits | packed[-1]
            out += number.to_bytes(count, "big")
        return bytes(out)

    def value(self, token):
        if 0x01 <= token <= 0x1F:
            return self._values.get(token - 1)
        if token == 0x20:
            return ""
        if token in (0x21, 0x22, 0x23):
            return (None, False, True)[token - 0x21]
        if token in (0x24, 0x25):
            return self._signed()
        if token == 0x26:
            return int.from_bytes(self._seven_bits(), "big", signed=True)
        if token in (0x28, 0x29):
            return self._take(5 if token == 0x28 else 10)  # a float: no reader here needs its value
        if token == 0x2A:
            return self._signed(), self._seven_bits()
        if 0x40 <= token <= 0xBF:
            size = token - 0x3F if token < 0x80 else token - 0x80 + 2
            return self._values.add(self._take(size).decode(), size)
        if 0xC0 <= token <= 0xDF:
            number = token & 0x1F
            return number >> 1 ^ -(number & 1)
        if token in (0xE0, 0xE4):
            return self._until_fc()
        if token == 0xE8:
            return self._seven_bits()
        if 0xEC <= token <= 0xEF:
            return self._values.get((token & 3) << 8 | self.byte())
        if token == 0xF8:
            return self._array()
        if token == 0xFA:
            return self._object()
        if token == 0xFD:
            return self._take(self._unsigned())
        raise Malformed(f"token {token:#x} at byte {self.at - 1}")

    def _array(self):
        found = []
        while (token := self.byte()) != 0xF9:
            found.append(self.value(token))
        return found

    def _object(self):
        found = {}
        while (token := self.byte()) != 0xFB:
            name = self._name(token)
            found[name] = self.value(self.byte())
        return found

    def _name(self, token):
        if token == 0x20:
            return ""
        if 0x30 <= token <= 0x33:
            return self._names.get((token & 3) << 8 | self.byte())
        if token == 0x34:
            return self._until_fc()
        if 0x40 <= token <= 0x7F:
            return self._names.get(token - 0x40)
        if 0x80 <= token <= 0xBF:
            size = token - 0x80 + 1
        elif 0xC0 <= token <= 0xF7:
            size = token - 0xC0 + 2
        else:
            raise Malformed(f"name token {token:#x} at byte {self.at - 1}")
        return self._names.add(self._take(size).decode(), size)
