"""cubin.py - reads the machine code of sm_80 to sm_100: which kernels a cubin holds, their instructions and branches.

An instruction has 16 bytes. The low nine bits are the operation, the next three the form of its operands. No NVIDIA
program is needed; `check_against` compares the tables with nvdisasm (PyPI: nvidia-cuda-nvdisasm) where there is one.
"""
import pathlib
import re
import struct
import subprocess
from dataclasses import dataclass, field

# Kinds of instructions, as they are counted.
FMA, TENSOR, FLOAT, INTEGER, MUFU = "fma", "tensor", "float", "integer", "mufu"
SHARED, GLOBAL, LOCAL, CONSTANT, STORE, CONTROL = "shared_loads", "global_loads", "local", "constant", "stores", "control"
ARITHMETIC = (FMA, TENSOR, FLOAT, INTEGER, MUFU)

OPERATIONS = {
    FMA: {0x023: "FFMA", 0x02b: "DFMA", 0x031: "HFMA2", 0x035: "HFMA2", 0x049: "FFMA2"},
    TENSOR: {0x037: "IMMA", 0x03c: "HMMA", 0x03f: "DMMA"},
    FLOAT: {0x008: "FSEL", 0x009: "FMNMX", 0x00b: "FSETP", 0x020: "FMUL", 0x021: "FADD", 0x028: "DMUL", 0x029: "DADD",
            0x02a: "DSETP", 0x030: "HADD2", 0x032: "HMUL2", 0x03e: "F2FP", 0x040: "HMNMX2", 0x045: "I2FP",
            0x04a: "FMUL2", 0x04b: "FADD2", 0x102: "FCHK", 0x105: "F2I", 0x106: "I2F", 0x107: "FRND", 0x110: "F2F",
            0x111: "F2I", 0x112: "I2F", 0x113: "FRND"},
    # Moves and the uniform data path as well: they take a place in the same issue slots.
    INTEGER: {0x002: "MOV", 0x003: "P2R", 0x005: "CS2R", 0x006: "VOTE", 0x007: "SEL", 0x00c: "ISETP", 0x010: "IADD3",
              0x011: "LEA", 0x012: "LOP3", 0x013: "IABS", 0x016: "PRMT", 0x017: "IMNMX", 0x019: "SHF", 0x01c: "PLOP3",
              0x024: "IMAD", 0x025: "IMAD", 0x026: "IDP", 0x027: "IMAD", 0x036: "VIADD", 0x046: "VIADDMNMX",
              0x048: "VIMNMX", 0x082: "UMOV", 0x083: "UP2UR", 0x086: "VOTEU", 0x087: "USEL", 0x08c: "UISETP", 0x090: "UIADD3",
              0x091: "ULEA",
              0x092: "ULOP3", 0x096: "UPRMT", 0x099: "USHF", 0x09c: "UPLOP3", 0x0a4: "UIMAD", 0x0a5: "UIMAD",
              0x0ca: "R2UR", 0x100: "FLO", 0x101: "BREV", 0x109: "POPC", 0x1c2: "R2UR"},
    MUFU: {0x108: "MUFU"},
    SHARED: {0x03b: "LDSM", 0x184: "LDS", 0x18c: "ATOMS", 0x18d: "ATOMS"},
    GLOBAL: {0x180: "LD", 0x181: "LDG", 0x1a3: "ATOMG", 0x1a8: "ATOMG", 0x1a9: "ATOMG", 0x1ae: "LDGSTS"},
    LOCAL: {0x183: "LDL", 0x187: "STL"},
    CONSTANT: {0x0b9: "ULDC", 0x0bb: "ULDC", 0x182: "LDC", 0x1ac: "LDCU"},
    STORE: {0x185: "ST", 0x186: "STG", 0x188: "STS", 0x18e: "RED"},
    CONTROL: {0x118: "NOP", 0x119: "S2R", 0x11a: "DEPBAR", 0x11b: "ENDCOLLECTIVE", 0x11d: "BAR", 0x141: "BSYNC",
              0x142: "BREAK", 0x143: "CALL", 0x144: "CALL", 0x145: "BSSY", 0x147: "BRA", 0x148: "WARPSYNC", 0x149: "BRX",
              0x14d: "EXIT", 0x14e: "LEPC", 0x150: "RET", 0x15c: "BPT", 0x15d: "NANOSLEEP", 0x18f: "CCTL",
              0x189: "SHFL", 0x192: "MEMBAR", 0x1a1: "MATCH",
              0x1ab: "ERRBAR", 0x1af: "LDGDEPBAR", 0x1c3: "S2UR", 0x1c4: "REDUX"},
}
NAMES = {code: name for names in OPERATIONS.values() for code, name in names.items()}
KINDS = {code: kind for kind, names in OPERATIONS.items() for code in names}

ZERO_REGISTER = 0xff
ALWAYS = 7          # the predicate that is true
MAX_THREADS = 0x05  # EIATTR_MAX_THREADS, the attribute of __launch_bounds__


def signed(value, bits):
    return value - (1 << bits) if value >> (bits - 1) else value


@dataclass
class Instruction:
    address: int
    code: int
    name: str
    kind: str
    conditional: bool = False  # may fall through as well
    target: int | None = None  # of a branch, or where a BSSY will meet
    barrier: int = 0           # of BSSY and BSYNC


@dataclass
class Kernel:
    symbol: str
    name: str = ""             # as in the source, with template arguments
    threads: int = 0           # of a block, by __launch_bounds__; 0: not given
    instructions: list = field(default_factory=list)


class UnknownInstruction(Exception):
    pass


def decode(address, low, high, architecture):
    """One instruction from its two words."""
    code = low & 0x1ff
    if code not in NAMES:
        raise UnknownInstruction(f"operation {code:#05x} at {address:#x} of sm_{architecture}: add it to cubin.py")
    made = Instruction(address, code, NAMES[code], KINDS[code])
    if made.name == "HFMA2" and low >> 24 & 0xff == ZERO_REGISTER:
        made.kind = INTEGER  # 0 * 0 + constant: how ptxas moves a constant
    guard = low >> 12 & 0xf
    made.conditional = guard != ALWAYS
    if made.name == "BRA":
        offset = signed((high << 64 | low) >> 34 & (1 << 48) - 1, 48)
        if architecture >= 90:
            offset = offset << 8 | low >> 16 & 0xff
        made.target = address + 16 + 4 * offset
        by_register = low & 0xe00 != 0x800 or low >> 24 & 0xff  # BRA.U, BRA.DIV, BRA.CONV
        made.conditional |= bool(by_register) or high >> 23 & 7 != ALWAYS
    if made.name in ("BSSY", "BSYNC"):
        made.barrier = low >> 16 & 0xf
    if made.name == "BSSY":
        made.target = address + 16 + signed(low >> 32, 32)
    return made


def attributes(info):
    """Of a section .nv.info: attribute -> its bytes."""
    at, found = 0, {}
    while at + 4 <= len(info):
        form, attribute, value = struct.unpack_from("<BBH", info, at)
        at += 4
        if form == 4:  # a size, and that many bytes
            found[attribute] = info[at:at + value]
            at += value
    return found


def demangle(symbols):
    """Names as in the source: no namespaces, no parameters, no return type."""
    text = subprocess.run(["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True).stdout
    return [short_name(line) for line in text.splitlines()]


def short_name(signature):
    name = re.sub(r"\b(?:\w+::)+", "", signature.replace("(anonymous namespace)::", "")).removeprefix("void ")
    depth = 0
    for k, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            name = name[:k]
            break
    return name.replace("(bool)1", "true").replace("(bool)0", "false").strip()


def architecture_of(data):
    flags, = struct.unpack_from("<I", data, 0x30)
    version = flags & 0xff
    return version if version >= 80 else flags >> 8 & 0xff  # the older layout, and that of CUDA 13


def read(path):
    """The architecture of a cubin, and its kernels."""
    data = pathlib.Path(path).read_bytes()
    if data[:4] != b"\x7fELF":
        raise ValueError(f"{path}: expected a cubin")
    architecture = architecture_of(data)
    start, = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3a)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + k * size) for k in range(count)]
    name_table = sections[names][4]
    content = {}
    for name, _, _, _, offset, length, *_ in sections:
        first = name_table + name
        content[data[first:data.index(0, first)].decode()] = data[offset:offset + length]
    kernels = []
    for name, code in content.items():
        if not name.startswith(".text."):
            continue
        kernel = Kernel(name.removeprefix(".text."))
        info = attributes(content.get(f".nv.info.{kernel.symbol}", b""))
        if MAX_THREADS in info:
            x, y, z = struct.unpack("<III", info[MAX_THREADS])
            kernel.threads = x * y * z
        words = struct.iter_unpack("<QQ", code)
        kernel.instructions = [decode(16 * k, low, high, architecture) for k, (low, high) in enumerate(words)]
        kernels.append(kernel)
    for kernel, name in zip(kernels, demangle([k.symbol for k in kernels])):
        kernel.name = name
    return architecture, sorted(kernels, key=lambda k: k.name)


LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@\S+ )?\s*([A-Z0-9_]+)([^;]*);")


def check_against(nvdisasm, path):
    """Differences between the tables here and nvdisasm: names, conditions and targets of all instructions."""
    text = subprocess.run([nvdisasm, path], capture_output=True, text=True, check=True).stdout
    found = {}
    for part in re.split(r"^\s*\.section\s+\.text\.", text, flags=re.M)[1:]:
        labels, lines, waiting = {}, [], []
        for line in part.splitlines():
            if m := re.match(r"\s*([.$\w]+):\s*$", line):
                waiting.append(m[1])
            elif m := LINE.search(line):
                labels.update(dict.fromkeys(waiting, int(m[1], 16)))
                waiting = []
                lines.append(m)
        found[part.split(",")[0].strip('"')] = (labels, lines)
    differences = []
    for kernel in read(path)[1]:
        labels, lines = found[kernel.symbol]
        if len(lines) != len(kernel.instructions):
            differences.append(f"{kernel.name}: {len(kernel.instructions)} instructions, nvdisasm {len(lines)}")
        for ours, theirs in zip(kernel.instructions, lines):
            _, guard, name, operands = theirs.groups()
            label = re.search(r"`\(([^)]+)\)", operands)
            target = labels.get(label[1]) if label and name in ("BRA", "BSSY") else None
            conditional = bool(guard) or name == "BRA" and bool(re.match(r"(\.\w+)* !?~?U?(P|R)", operands))
            if ((name not in (ours.name, f"CGA{ours.name}")) or target != ours.target
                    or name in ("BRA", "EXIT", "RET") and conditional != ours.conditional):
                differences.append(f"{kernel.name}: {ours} is {theirs[0]}, to {target}")
    return differences
