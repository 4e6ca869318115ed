"""What happens to files on their way: bits that flip, blocks that are lost, swapped or repeated, lengths that lie."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes], bytes]


def flip_bit(rng: random.Random, data: bytes) -> bytes:
    return _flipped(rng, data, 1, 0, len(data))


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    return _flipped(rng, data, rng.randint(2, 40), 0, len(data))


def flip_near_start(rng: random.Random, data: bytes) -> bytes:
    return _flipped(rng, data, rng.randint(1, 4), 0, min(600, len(data)))


def flip_near_end(rng: random.Random, data: bytes) -> bytes:
    return _flipped(rng, data, rng.randint(1, 4), max(0, len(data) - 600), len(data))


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def truncate_a_little(rng: random.Random, data: bytes) -> bytes:
    return data[: -rng.randint(1, 32)]


def lose_the_start(rng: random.Random, data: bytes) -> bytes:
    return data[rng.randint(1, max(1, len(data) // 2)) :]


def lose_a_block(rng: random.Random, data: bytes) -> bytes:
    start, end = _block(rng, data)
    return data[:start] + data[end:]


def blank_a_block(rng: random.Random, data: bytes) -> bytes:
    start, end = _block(rng, data)
    return data[:start] + bytes([rng.choice([0, 255, 32])]) * (end - start) + data[end:]


def repeat_a_block(rng: random.Random, data: bytes) -> bytes:
    start, end = _block(rng, data)
    return data[:end] + data[start:]


def swap_blocks(rng: random.Random, data: bytes) -> bytes:
    size = rng.choice([16, 512, 4096])
    if len(data) < 2 * size:
        return data[::-1]
    first, second = sorted(size * place for place in rng.sample(range(len(data) // size), 2))
    a, b = data[first : first + size], data[second : second + size]
    return data[:first] + b + data[first + size : second] + a + data[second + size :]


def append_noise(rng: random.Random, data: bytes) -> bytes:
    return data + rng.randbytes(rng.choice([1, 22, 512, 70_000]))


def prepend_noise(rng: random.Random, data: bytes) -> bytes:
    return rng.choice([b"\n", b"\xef\xbb\xbf", b"#!/bin/sh\n", rng.randbytes(100), data[:512]]) + data


def wrong_number(rng: random.Random, data: bytes) -> bytes:
    """A length, an offset or a count anywhere becomes another."""
    form = rng.choice(["<H", "<I", "<Q", ">H", ">I", ">Q"])
    bits = 8 * struct.calcsize(form)
    values = [0, 1, 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 1) - 1, len(data) % 2**bits, rng.getrandbits(bits)]
    if len(data) < bits // 8:
        return data
    ends = [rng.randrange(0, min(200, len(data))), rng.randrange(max(0, len(data) - 200), len(data))]
    start = min(rng.choice([*ends, rng.randrange(len(data))]), len(data) - bits // 8)
    return data[:start] + struct.pack(form, rng.choice(values)) + data[start + bits // 8 :]


def wrong_octal(rng: random.Random, data: bytes) -> bytes:
    """The fields of a tar header: a size, a mode or a checksum becomes another text, often with a right checksum."""
    if len(data) < 512:
        return data
    block = 512 * rng.randrange(min(4, len(data) // 512))
    header = bytearray(data[block : block + 512])
    start, length = rng.choice([(100, 8), (108, 8), (124, 12), (124, 12), (124, 12), (136, 12), (148, 8), (345, 12)])
    values = [b"7" * length, b"\xff" * length, b"\x80" + b"\x7f" * (length - 1), b"-1", b"\x00", b" 8 9", b"0x10"]
    header[start : start + length] = rng.choice(values)[:length].ljust(length, b"\0")
    if rng.random() < 0.3:
        header[156] = rng.choice(b"0123456789xgLKSVMDNA\x00\xff")
    if rng.random() < 0.8:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return data[:block] + bytes(header) + data[block + 512 :]


def twice(rng: random.Random, data: bytes) -> bytes:
    return data + data


def noise(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice([0, 2, 6, 30])] + rng.randbytes(rng.choice([0, 1, 100, 5000]))


MUTATIONS: tuple[Mutation, ...] = (
    flip_bit,
    flip_bits,
    flip_near_start,
    flip_near_end,
    truncate,
    truncate_a_little,
    lose_the_start,
    lose_a_block,
    blank_a_block,
    repeat_a_block,
    swap_blocks,
    append_noise,
    prepend_noise,
    wrong_number,
    wrong_number,
    wrong_octal,
    wrong_octal,
    twice,
    noise,
)


def _flipped(rng: random.Random, data: bytes, count: int, start: int, end: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count if end > start else 0):
        changed[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _block(rng: random.Random, data: bytes) -> tuple[int, int]:
    size = rng.choice([1, 7, 512, 4096])
    start = rng.randrange(max(1, len(data)))
    if size == 512:
        start -= start % 512  # what a tar archive is made of
    return start, min(len(data), start + size)
