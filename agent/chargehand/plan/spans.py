"""Which of many ranges a number is in, without looking at those that it is not in."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Spans"]

T = TypeVar("T")


class Spans(Generic[T]):
    """Half-open ranges of 0..size, each with a value: a tree over the numbers (a segment tree).

    A range stands at the few nodes that make it up, at most two a level; those of a number are on its way from its
    leaf to the root. So both adding and asking cost the logarithm of `size`, however many ranges there are.
    """

    __slots__ = ("_leaf", "_nodes")

    def __init__(self, size: int) -> None:
        self._leaf = 1 << size.bit_length()  # of 0; a node's parent is half its number, the root is 1
        self._nodes: dict[int, list[T]] = {}

    def add(self, first: int, end: int, value: T) -> None:
        low, high = self._leaf + first, self._leaf + end
        while low < high:
            if low & 1:
                self._nodes.setdefault(low, []).append(value)
                low += 1
            if high & 1:
                high -= 1
                self._nodes.setdefault(high, []).append(value)
            low, high = low >> 1, high >> 1

    def at(self, number: int) -> list[T]:
        """The values of all ranges that it is in."""
        found: list[T] = []
        node = self._leaf + number
        while node:
            if node in self._nodes:
                found += self._nodes[node]
            node >>= 1
        return found
