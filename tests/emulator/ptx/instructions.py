"""instructions.py - what each PTX instruction is in C++: one rule for an opcode with all its modifiers.

A modifier that no rule names (.ftz, .sat, .approx, a rounding) is no match, hence an error: nothing is skipped. Nor is
floating-point arithmetic that leaves contraction to the compiler (add.f32 for add.rn.f32).
"""
import re

TYPES = {"pred": "bool", "b8": "std::uint8_t", "u8": "std::uint8_t", "s8": "std::int8_t", "b16": "std::uint16_t",
         "u16": "std::uint16_t", "s16": "std::int16_t", "b32": "std::uint32_t", "u32": "std::uint32_t",
         "s32": "std::int32_t", "f32": "float", "b64": "std::uint64_t", "u64": "std::uint64_t", "s64": "std::int64_t",
         "f64": "double"}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
               "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
OPPOSITE = {"lt": ">=", "le": ">", "gt": "<=", "ge": "<"}
LOGIC = {"and": "&", "or": "|", "xor": "^"}
SPACES = r"(?:\.(?P<space>global|shared|param|local|const))?"
RULES = []


class UnknownInstruction(Exception):
    pass


def width(kind):
    return 1 if kind == "pred" else int(kind[1:])


def unsigned(kind):
    return f"u{width(kind)}"


def rule(pattern):
    """Registers a function of (operands, **named groups of the opcode); it returns the value of the first operand as
    (type, expression), or None when it has written statements itself."""
    def add(function):
        RULES.append((re.compile(pattern), function))
        return function
    return add


def translate(opcode, operands):
    for pattern, function in RULES:
        if match := pattern.fullmatch(opcode):
            value = function(operands, **match.groupdict())
            if value:
                operands.put(0, *value)
            return
    raise UnknownInstruction(opcode)


# ---- moves and memory

@rule(r"mov\.(?P<kind>pred|[bus](?:16|32|64)|f32|f64)")
def move(o, kind):
    parts = o.vector(1)
    if parts:
        each = unsigned(f"b{width(kind) // len(parts)}")
        words = [f"({TYPES[unsigned(kind)]}({o.read(p, each)}) << {k * width(each)})" for k, p in enumerate(parts)]
        return unsigned(kind), " | ".join(words)
    parts = o.vector(0)
    if not parts:
        return kind, o.use(1, kind)
    each = unsigned(f"b{width(kind) // len(parts)}")
    o.line(f"const {TYPES[unsigned(kind)]} whole = {o.use(1, unsigned(kind))};")
    for k, part in enumerate(parts):
        o.write(part, each, f"whole >> {k * width(each)}")


@rule(r"cvta(?:\.to)?\.(?:global|const|local|param)\.u64")
def generic_address(o):
    return "u64", o.use(1, "u64")


@rule(r"cvta(?P<to>\.to)?\.shared\.u64")
def generic_shared_address(o, to):
    return "u64", f"{o.use(1, 'u64')} {'-' if to else '+'} SH"


@rule(rf"ld{SPACES}(?:\.nc)?(?:\.v(?P<count>2|4))?\.(?P<kind>[bus](?:8|16|32|64)|f32|f64)")
def load(o, space, count, kind):
    address, registers = o.address(1, space, int(count or 1), kind), o.vector(0) or [o.text(0)]
    for k, register in enumerate(registers):
        o.write(register, kind, f"*(const {TYPES[kind]}*)({address} + {k * width(kind) // 8})", widening=True)


@rule(rf"st{SPACES}(?:\.v(?P<count>2|4))?\.(?P<kind>[bus](?:8|16|32|64)|f32|f64)")
def store(o, space, count, kind):
    address, values = o.address(0, space, int(count or 1), kind), o.vector(1) or [o.text(1)]
    for k, value in enumerate(values):
        o.line(f"*({TYPES[kind]}*)({address} + {k * width(kind) // 8}) = {o.read(value, kind, narrowing=True)};")


# ---- floating point

@rule(r"(?P<op>add|sub|mul|div)\.rn\.(?P<kind>f32|f64)")
def float_arithmetic(o, op, kind):
    sign = {"add": "+", "sub": "-", "mul": "*", "div": "/"}[op]
    return kind, f"{o.use(1, kind)} {sign} {o.use(2, kind)}"


@rule(r"fma\.rn\.(?P<kind>f32|f64)")
def fused(o, kind):
    function = "__builtin_fmaf" if kind == "f32" else "__builtin_fma"
    return kind, f"{function}({o.use(1, kind)}, {o.use(2, kind)}, {o.use(3, kind)})"


@rule(r"(?P<op>rcp|sqrt)\.rn\.(?P<kind>f32|f64)")
def root_or_reciprocal(o, op, kind):
    return kind, f"1 / {o.use(1, kind)}" if op == "rcp" else f"std::sqrt({o.use(1, kind)})"


@rule(r"(?P<op>neg|abs)\.(?P<kind>f32|f64)")
def sign(o, op, kind):
    return kind, f"-{o.use(1, kind)}" if op == "neg" else f"std::fabs({o.use(1, kind)})"


@rule(r"copysign\.(?P<kind>f32|f64)")
def copy_sign(o, kind):
    return kind, f"std::copysign({o.use(2, kind)}, {o.use(1, kind)})"


# ---- integers

@rule(r"(?P<op>add|sub|mul\.lo)\.(?P<kind>[us](?:16|32|64))")
def integer_arithmetic(o, op, kind):
    kind = unsigned(kind)  # the low bits are those of the signed operation, and overflow is defined
    sign = {"add": "+", "sub": "-", "mul.lo": "*"}[op]
    return kind, f"1u * {o.use(1, kind)} {sign} {o.use(2, kind)}"  # 1u: C++ would compute 16 bits as int


@rule(r"mad\.lo\.(?P<kind>[us](?:16|32|64))")
def multiply_add(o, kind):
    kind = unsigned(kind)
    return kind, f"1u * {o.use(1, kind)} * {o.use(2, kind)} + {o.use(3, kind)}"


@rule(r"(?P<op>mul|mad)\.wide\.(?P<kind>[us](?:16|32))")
def wide_product(o, op, kind):
    wide = f"{kind[0]}{2 * width(kind)}"
    product = f"{TYPES[wide]}({o.use(1, kind)}) * {o.use(2, kind)}"  # of 32 bits or more
    if op == "mul":
        return wide, product
    return unsigned(wide), f"{TYPES[unsigned(wide)]}({product}) + {o.use(3, unsigned(wide))}"


@rule(r"(?P<op>mul|mad)\.hi\.(?P<kind>[us](?:32|64))")
def high_product(o, op, kind):
    product = f"ptx::high_product({o.use(1, kind)}, {o.use(2, kind)})"
    if op == "mul":
        return kind, product
    return unsigned(kind), f"{TYPES[unsigned(kind)]}({product}) + {o.use(3, unsigned(kind))}"


@rule(r"(?P<op>div|rem)\.(?P<kind>[us](?:16|32|64))")
def division(o, op, kind):
    return kind, f"ptx::{'quotient' if op == 'div' else 'remainder'}({o.use(1, kind)}, {o.use(2, kind)})"


@rule(r"(?P<op>min|max)\.(?P<kind>[us](?:16|32|64)|f32|f64)")
def extreme(o, op, kind):
    return kind, f"ptx::{op}imum({o.use(1, kind)}, {o.use(2, kind)})"


@rule(r"(?P<op>neg|abs)\.(?P<kind>s(?:16|32|64))")
def integer_sign(o, op, kind):
    value = o.use(1, unsigned(kind))
    return unsigned(kind), f"-{value}" if op == "neg" else f"{o.use(1, kind)} < 0 ? -{value} : {value}"


@rule(r"(?P<op>and|or|xor)\.(?P<kind>pred|b(?:16|32|64))")
def logic(o, op, kind):
    return kind, f"{o.use(1, kind)} {LOGIC[op]} {o.use(2, kind)}"


@rule(r"not\.(?P<kind>pred|b(?:16|32|64))")
def complement(o, kind):
    return kind, f"{'!' if kind == 'pred' else '~'}{o.use(1, kind)}"


@rule(r"lop3\.b32")
def three_way_logic(o):
    return "u32", f"ptx::three_way({', '.join(o.use(k, 'u32') for k in (1, 2, 3, 4))})"


@rule(r"(?P<op>shl\.b|shr\.[bus])(?P<bits>16|32|64)")
def shift(o, op, bits):
    kind = ("s" if op == "shr.s" else "u") + bits
    return kind, f"ptx::shift_{'left' if op == 'shl.b' else 'right'}({o.use(1, kind)}, {o.use(2, 'u32')})"


@rule(r"shf\.(?P<side>l|r)\.(?P<mode>wrap|clamp)\.b32")
def funnel_shift(o, side, mode):
    amount = f"{o.use(3, 'u32')} & 31" if mode == "wrap" else f"ptx::minimum({o.use(3, 'u32')}, 32u)"
    return "u32", f"ptx::funnel_{'left' if side == 'l' else 'right'}({o.use(1, 'u32')}, {o.use(2, 'u32')}, {amount})"


@rule(r"bfe\.(?P<kind>[us](?:32|64))")
def extract_bits(o, kind):
    return kind, f"ptx::extract({o.use(1, kind)}, {o.use(2, 'u32')}, {o.use(3, 'u32')})"


@rule(r"bfi\.b(?P<bits>32|64)")
def insert_bits(o, bits):
    kind = f"u{bits}"
    return kind, f"ptx::insert({o.use(1, kind)}, {o.use(2, kind)}, {o.use(3, 'u32')}, {o.use(4, 'u32')})"


@rule(r"(?P<op>popc|clz)\.b(?P<bits>32|64)")
def count_bits(o, op, bits):
    return "u32", f"{'std::popcount' if op == 'popc' else 'std::countl_zero'}({o.use(1, f'u{bits}')})"


@rule(r"brev\.b(?P<bits>32|64)")
def reverse_bits(o, bits):
    return f"u{bits}", f"ptx::reversed({o.use(1, f'u{bits}')})"


@rule(r"prmt\.b32")
def permute_bytes(o):
    return "u32", f"ptx::permute({o.use(1, 'u32')}, {o.use(2, 'u32')}, {o.use(3, 'u32')})"


# ---- comparisons and conversions

def compare(comparison, kind, a, b):
    if kind[0] != "f":
        return f"{a} {COMPARISONS[comparison]} {b}"
    if comparison in ("num", "nan"):
        return f"{'!' if comparison == 'num' else ''}({a} != {a} || {b} != {b})"
    if comparison == "ne":  # ordered, unlike that of C
        return f"({a} < {b} || {a} > {b})"
    if comparison == "equ":
        return f"!({a} < {b} || {a} > {b})"
    if comparison == "neu":
        return f"{a} != {b}"
    if comparison[-1] == "u":
        return f"!({a} {OPPOSITE[comparison[:-1]]} {b})"
    return f"{a} {COMPARISONS[comparison]} {b}"


@rule(r"setp\.(?P<comparison>eq|ne)(?:\.(?P<op>and|or|xor))?\.(?P<kind>b(?:16|32|64))")
@rule(r"setp\.(?P<comparison>eq|ne|lt|le|gt|ge)(?:\.(?P<op>and|or|xor))?\.(?P<kind>s(?:16|32|64))")
@rule(r"setp\.(?P<comparison>eq|ne|lt|le|gt|ge|lo|ls|hi|hs)(?:\.(?P<op>and|or|xor))?\.(?P<kind>u(?:16|32|64))")
@rule(r"setp\.(?P<comparison>(?:eq|ne|lt|le|gt|ge)u?|num|nan)(?:\.(?P<op>and|or|xor))?\.(?P<kind>f32|f64)")
def set_predicate(o, comparison, op, kind):
    holds = compare(comparison, kind, o.use(1, kind), o.use(2, kind))
    result, _, opposite = o.text(0).partition("|")
    also = f" {LOGIC[op]} {o.use(3, 'pred')}" if op else ""
    if not opposite:
        return "pred", f"({holds}){also}"
    o.line(f"const bool holds = {holds}, first = holds{also}, second = !holds{also};")
    o.write(result, "pred", "first")
    o.write(opposite, "pred", "second")


@rule(r"selp\.(?P<kind>[bus](?:16|32|64)|f32|f64)")
def select(o, kind):
    return kind, f"{o.use(3, 'pred')} ? {o.use(1, kind)} : {o.use(2, kind)}"


@rule(r"cvt\.(?P<to>[us](?:8|16|32|64))\.(?P<kind>[us](?:8|16|32|64))")
@rule(r"cvt\.rn\.(?P<to>f32|f64)\.(?P<kind>[us](?:8|16|32|64))")
@rule(r"cvt\.rn\.(?P<to>f32)\.(?P<kind>f64)")
@rule(r"cvt\.(?P<to>f64)\.(?P<kind>f32)")
def convert(o, to, kind):
    return to, f"{TYPES[to]}({o.use(1, kind, narrowing=True)})", True


@rule(r"cvt\.r(?P<mode>[nzmp])i\.(?P<to>f32|f64)\.(?P<kind>f32|f64)")
@rule(r"cvt\.r(?P<mode>[nzmp])i\.(?P<to>[us](?:8|16|32|64))\.(?P<kind>f32|f64)")
def round_to_integer(o, mode, to, kind):
    function = {"n": "std::nearbyint", "z": "std::trunc", "m": "std::floor", "p": "std::ceil"}[mode]
    rounded = f"{function}({o.use(1, kind)})"
    if to[0] == "f":
        if to != kind:
            raise UnknownInstruction(f"cvt.r{mode}i.{to}.{kind}")
        return to, rounded
    return to, f"ptx::to_integer<{TYPES[to]}>({rounded})", True


# ---- control, and what threads do together

@rule(r"bra(?:\.uni)?")
def branch(o):
    o.line(f"goto {o.label(o.text(0))};")


@rule(r"ret|exit")
def leave(o):
    o.line("return;")


@rule(r"trap")
def trap(o):
    o.line(f"cuemu::fail(\"the kernel gave up\", {o.site()});")


@rule(r"(?:bar\.sync|barrier\.sync(?:\.aligned)?)")
def block_barrier(o):
    if o.texts != [o.text(0)] or o.text(0) != "0":
        raise UnknownInstruction("barriers other than 0, or of a part of the block")
    o.line(f"cuemu::block_barrier(0, cuemu::Vote::count, {o.barrier_site()});")


@rule(r"bar\.warp\.sync")
def warp_barrier(o):
    o.line(f"cuemu::warp_exchange({o.use(0, 'u32')}, {{}}, true, {o.site()});")


@rule(r"shfl\.sync\.(?P<mode>up|down|bfly|idx)\.b32")
def shuffle(o, mode):
    result, _, inside = o.text(0).partition("|")
    o.line(f"const ptx::Shuffled shuffled = ptx::shuffle(ptx::Mode::{mode}, {o.use(1, 'u32')}, {o.use(2, 'u32')}, "
           f"{o.use(3, 'u32')}, {o.use(4, 'u32')}, {o.site()});")
    o.write(result, "u32", "shuffled.value")
    if inside:
        o.write(inside, "pred", "shuffled.inside")


@rule(r"vote\.sync\.(?P<mode>ballot\.b32|any\.pred|all\.pred)")
def vote(o, mode):
    wanted = "!" if mode == "all.pred" else ""
    ballot = f"ptx::ballot({wanted}({o.use(1, 'pred')}), {o.use(2, 'u32')}, {o.site()})"
    if mode == "ballot.b32":
        return "u32", ballot
    return "pred", f"{ballot} {'==' if wanted else '!='} 0"


@rule(r"(?P<op>atom|red)(?:\.(?:relaxed|gpu|cta))*(?:\.(?P<space>global|shared))?"
      r"\.(?P<what>add|min|max|and|or|xor|exch|cas)(?:\.noftz)?\.(?P<kind>[bus](?:32|64)|f32|f64)")
def atomic(o, op, space, what, kind):
    first = 1 if op == "red" else 2
    values = [o.use(k, kind) for k in range(first, first + (2 if what == "cas" else 1))]
    change = {"add": f"{TYPES[kind]}(old + value)", "min": "ptx::minimum(old, value)",
              "max": "ptx::maximum(old, value)", "and": "old & value", "or": "old | value", "xor": "old ^ value", "exch": "value",
              "cas": f"old == value ? {values[-1]} : old"}[what]
    address = o.address(first - 1, space, 1, kind)
    if op == "red" and what in ("exch", "cas"):
        raise UnknownInstruction(f"red.{what}")
    call = (f"cuemu::atomic_update(({TYPES[kind]}*)({address}), "
            f"[=, value = {values[0]}]({TYPES[kind]} old) {{ return {change}; }})")
    if op == "atom":
        return kind, call
    o.line(f"{call};")


@rule(r"(?:membar|fence)(?:\.(?:sc|acq_rel))?\.(?:cta|gl|gpu|sys)")
def memory_fence(o):
    o.line("cuemu::fence();")
