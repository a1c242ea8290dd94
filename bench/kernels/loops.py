"""loops.py - the loops of a kernel's machine code, and what instructions they issue.

A loop is a branch back to a place that every way to the branch has passed (its target dominates it), with all that lies
between the two: not every branch backwards is one, since ptxas puts rare code behind the end of a kernel.
"""
from collections import Counter
from dataclasses import dataclass

from cubin import ARITHMETIC, CONTROL, FMA, GLOBAL, SHARED, TENSOR


@dataclass
class Loop:
    first: int          # address of the branch's target
    last: int           # of the branch
    instructions: int
    counts: Counter     # by the kinds of cubin.py
    inner: bool         # holds no other loop

    def fma_share(self):
        """FMAs and tensor instructions among the arithmetic ones; moves and integers are arithmetic here."""
        arithmetic = sum(self.counts[kind] for kind in ARITHMETIC)
        return (self.counts[FMA] + self.counts[TENSOR]) / arithmetic if arithmetic else 0.0


def meeting_place(instructions, k):
    """Where the threads of a BSYNC go on: at the place that the last BSSY of the same barrier named."""
    for instruction in reversed(instructions[:k]):
        if instruction.name == "BSSY" and instruction.barrier == instructions[k].barrier:
            return instruction.target
    return None


def successors(instructions, k):
    """Addresses that may follow; a call comes back."""
    here, after = instructions[k], instructions[k].address + 16
    found = []
    if here.name == "BRA":
        found = [here.target]
    elif here.name == "BSYNC":
        found = [meeting_place(instructions, k)]
    if here.conditional or here.name not in ("BRA", "BSYNC", "EXIT", "RET", "BRX"):
        found.append(after)
    return [a for a in found if a is not None and a < 16 * len(instructions)]


class Graph:
    """Straight pieces of code and the ways between them. Piece 0 is a root from which the kernel's entry, and what is
    only reached by calls and jump tables, is reached."""

    def __init__(self, instructions):
        ends = [k for k, i in enumerate(instructions) if i.name in ("BRA", "BSYNC", "EXIT", "RET", "BRX")]
        follow = {k: successors(instructions, k) for k in ends}
        starts = {0} | {a // 16 for to in follow.values() for a in to} | {k + 1 for k in ends}
        starts = sorted(k for k in starts if k < len(instructions))
        self.spans = [range(0)] + [range(a, b) for a, b in zip(starts, starts[1:] + [len(instructions)])]
        piece = {span.start: p for p, span in enumerate(self.spans) if p}
        self.next = [[]]
        for span in self.spans[1:]:
            last = span.stop - 1
            to = follow.get(last, [16 * span.stop] if span.stop < len(instructions) else [])
            self.next.append(sorted({piece[a // 16] for a in to}))
        reached = {p for to in self.next for p in to}
        self.next[0] = [p for p in range(1, len(self.spans)) if p == 1 or p not in reached]
        self.before = [[] for _ in self.spans]
        for p, to in enumerate(self.next):
            for q in to:
                self.before[q].append(p)

    def order(self):
        """Pieces, each after those that lead to it, loops apart."""
        done, seen, stack = [], {0}, [(0, iter(self.next[0]))]
        while stack:
            p, rest = stack[-1]
            q = next((q for q in rest if q not in seen), None)
            if q is None:
                done.append(p)
                stack.pop()
            else:
                seen.add(q)
                stack.append((q, iter(self.next[q])))
        return done[::-1]

    def dominators(self):
        """Of each piece the nearest other one that all ways to it pass (Cooper, Harvey and Kennedy 2001)."""
        order = self.order()
        rank = {p: k for k, p in enumerate(order)}
        nearest, changed = {0: 0}, True
        while changed:
            changed = False
            for p in order[1:]:
                found = None
                for q in (q for q in self.before[p] if q in nearest):
                    found = q if found is None else self.common(nearest, rank, found, q)
                if nearest.get(p) != found:
                    nearest[p], changed = found, True
        return nearest

    @staticmethod
    def common(nearest, rank, p, q):
        while p != q:
            if rank[p] > rank[q]:
                p = nearest[p]
            else:
                q = nearest[q]
        return p

    def loops(self):
        """Head -> the pieces of its loop and the last piece that branches back."""
        nearest, found = self.dominators(), {}
        for p in nearest:
            for head in self.next[p]:
                if not self.dominates(nearest, head, p):
                    continue
                body, tail = found.get(head, ({head}, 0))
                found[head] = (body, max(tail, p))
                stack = [p]
                while stack:
                    q = stack.pop()
                    if q not in body:
                        body.add(q)
                        stack += self.before[q]
        return found

    @staticmethod
    def dominates(nearest, p, q):
        while q != p and q != 0:
            q = nearest[q]
        return q == p


def loops_of(kernel):
    """All loops of a kernel, in the order of their addresses."""
    code = kernel.instructions
    graph = Graph(code)
    found = graph.loops()
    loops = []
    for head, (body, tail) in sorted(found.items()):
        inside = [code[k] for p in body for k in graph.spans[p] if code[k].name != "NOP"]
        inner = not any(other in body for other in found if other != head)
        if inner and all(i.kind == CONTROL for i in inside):
            continue  # the trap behind the end of a kernel
        loops.append(Loop(16 * graph.spans[head].start, 16 * (graph.spans[tail].stop - 1), len(inside),
                          Counter(i.kind for i in inside), inner))
    return loops


def hot_loop(kernel):
    """The inner loop with the most FMAs and tensor instructions, then with the most instructions; None: no loop."""
    inner = [loop for loop in loops_of(kernel) if loop.inner]
    return max(inner, key=lambda l: (l.counts[FMA] + l.counts[TENSOR], l.instructions), default=None)


def describe(loop):
    figures = [f"{kind} {loop.counts[kind]}" for kind in (*ARITHMETIC, SHARED, GLOBAL) if loop.counts[kind]]
    return (f"{loop.first:#06x}-{loop.last:#06x}{' inner' if loop.inner else ''}: {loop.instructions} instructions, "
            f"{', '.join(figures)}; {100 * loop.fma_share():.0f} % of the arithmetic are FMAs")
