"""Block manager: which sequence holds which block of the KV cache, and which blocks can be reused. Accounts only.

A block is free, held by one or more sequences, or evictable: held by none, and kept for a sequence that begins with the
same tokens. Only full blocks are shared, so that no sequence ever writes to a block that another reads.
"""

from array import array
from collections import OrderedDict
from hashlib import sha256

from quintet.engine.scheduling.sequence import Sequence


class BlockManager:
    """Hands out blocks, takes them back, and finds those that can be used again, the least recently used going first.

    A block is found again by the expert's digest, its number of virtual tokens, and all token ids up to the block's
    end. Two experts never share a block, even when one replaces the other. Since the digest is that of all that an
    expert's states come of, virtual tokens included, they are right for one that left memory and has come back.
    """

    def __init__(self, blocks: int, block_size: int) -> None:
        self.blocks = blocks
        self.block_size = block_size
        self._free = list(range(blocks - 1, -1, -1))
        self._evictable: OrderedDict[int, None] = OrderedDict()
        self._ref_counts = [0] * blocks
        self._block_of: dict[bytes, int] = {}
        self._content: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """How many blocks nobody holds."""
        return len(self._free) + len(self._evictable)

    @property
    def places(self) -> int:
        """How many tokens fit, virtual ones included."""
        return self.blocks * self.block_size

    def count(self, sequence: Sequence) -> int:
        """Return how many blocks the ids of a sequence take, shared or not."""
        return -(-(sequence.num_virtual_tokens + len(sequence.ids)) // self.block_size)

    def missing(self, sequence: Sequence) -> int:
        """Return how many more of the blocks that nobody holds a waiting sequence would take, to compute its ids."""
        held = sum(self._ref_counts[block] > 0 for block in self._reusable(sequence))
        return self.count(sequence) - held

    def admit(self, sequence: Sequence) -> None:
        """Give a waiting sequence blocks for all of its ids, those first that hold their states already.

        At least one id is left to compute, so that there are logits to choose the next from.
        """
        sequence.blocks = self._reusable(sequence)
        for block in sequence.blocks:
            self._evictable.pop(block, None)
            self._ref_counts[block] += 1
        sequence.num_cached_blocks = len(sequence.blocks)
        sequence.num_computed_tokens = max(
            0, sequence.num_cached_blocks * self.block_size - sequence.num_virtual_tokens
        )
        sequence.blocks += [self._take() for _ in range(self.count(sequence) - sequence.num_cached_blocks)]

    def grow(self, sequence: Sequence) -> bool:
        """Give a running sequence the block that its last id needs; return whether there was one."""
        while len(sequence.blocks) < self.count(sequence):
            if not self.free:
                return False
            sequence.blocks.append(self._take())
        return True

    def commit(self, sequence: Sequence) -> None:
        """Let others use the full blocks of what a sequence has computed."""
        full = (sequence.num_virtual_tokens + sequence.num_computed_tokens) // self.block_size
        keys = self._keys(sequence, full)
        for number in range(sequence.num_cached_blocks, full):
            # Of two sequences that computed the same at once, the first one's block is kept.
            if keys[number] not in self._block_of:
                self._block_of[keys[number]] = sequence.blocks[number]
                self._content[sequence.blocks[number]] = keys[number]
        sequence.num_cached_blocks = max(sequence.num_cached_blocks, full)

    def release(self, sequence: Sequence) -> None:
        """Take back what a sequence holds; what it has committed stays to be found."""
        # The end of a text is of use only to those who have its beginning: it must go first.
        for block in reversed(sequence.blocks):
            self._ref_counts[block] -= 1
            if not self._ref_counts[block]:
                if block in self._content:
                    self._evictable[block] = None
                else:
                    self._free.append(block)
        sequence.blocks, sequence.num_cached_blocks, sequence.num_computed_tokens = [], 0, 0

    def _reusable(self, sequence: Sequence) -> list[int]:
        """Return the blocks that hold the beginning of a sequence, the last id excepted."""
        found: list[int] = []
        for key in self._keys(sequence, (sequence.num_virtual_tokens + len(sequence.ids) - 1) // self.block_size):
            if (block := self._block_of.get(key)) is None:
                break
            found.append(block)
        # Whoever computes the first id writes the virtual tokens too, and must not write to what others read.
        return found if len(found) * self.block_size > sequence.num_virtual_tokens else []

    def _keys(self, sequence: Sequence, count: int) -> list[bytes]:
        """Return the keys of the first `count` blocks, which must be full."""
        keys = sequence.keys
        while len(keys) < count:
            before = (
                keys[-1] if keys else sha256(f"{sequence.expert!r} {sequence.num_virtual_tokens}".encode()).digest()
            )
            start = len(keys) * self.block_size - sequence.num_virtual_tokens
            ids = array("q", sequence.ids[max(0, start) : max(0, start + self.block_size)])
            keys.append(sha256(before + ids.tobytes()).digest())
        return keys[:count]

    def _take(self) -> int:
        if not self._free:
            oldest, _ = self._evictable.popitem(last=False)
            del self._block_of[self._content.pop(oldest)]
            self._free.append(oldest)
        block = self._free.pop()
        self._ref_counts[block] = 1
        return block
