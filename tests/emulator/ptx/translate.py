#!/usr/bin/env python3
"""translate.py PTX CPP: turns the PTX of nvcc into C++ for the emulated device: a function for each kernel, a variable
for each register, a statement for each instruction (instructions.py), goto for branches.

What it does not know ends it with one line that names file and line.
"""
import bisect
import pathlib
import re
import sys
from dataclasses import dataclass

import instructions
from instructions import TYPES, UnknownInstruction, width

SPECIAL = {f"%{name}.{axis}": f"{cuda}.{axis}" for axis in "xyz"
           for name, cuda in {"tid": "threadIdx", "ctaid": "blockIdx", "ntid": "blockDim", "nctaid": "gridDim"}.items()}
SPECIAL |= {"%laneid": "ptx::lane()", "WARP_SZ": "32"}
LINE_DIRECTIVES = (".version", ".target", ".address_size", ".file", ".loc", ".pragma")
STATEMENT = re.compile(r"(?:(?P<label>[$\w]+):(?!:)|(?P<loc>\.loc\s[^\n]*)|(?P<open>\{)|(?P<close>\})"
                       r"|(?P<text>(?:[^;{}]|\{[^{};]*\})+?);)")
SHARED_ARRAY = re.compile(r"\.shared \.align (?P<align>\d+) \.b8 (?P<name>[\w$]+) ?\[(?P<size>\d*)\]")
LOCAL_ARRAY = re.compile(r"\.local \.align (?P<align>\d+) \.b8 (?P<name>[\w$]+) ?\[(?P<size>\d+)\]")
PARAMETER = re.compile(r"\.param(?: \.align (?P<align>\d+))? \.(?P<kind>\w+)(?: \.ptr(?: \.\w+)*(?: \.align \d+)?)? "
                       r"(?P<name>[\w$]+)(?:\[(?P<size>\d+)\])?")


class PtxError(Exception):
    pass


@dataclass
class Symbol:
    space: str
    at: int        # offset in its space
    size: int      # 0: dynamic shared memory
    align: int


def aligned(offset, align):
    return -(-offset // align) * align


def canonical(name):
    """A kernel's name without what in that of its anonymous namespace differs between compilations of its file: hashes,
    maybe a process. As canonical() in launch.cpp."""
    at = 0
    while match := re.compile(r"(\d+)(_GLOBAL__N__)").search(name, at):
        end = match.start(2) + int(match[1])
        stem = re.sub(r"_GLOBAL__N__[0-9a-f]{8}|_[0-9a-f]{8}(_\d+)?$", "", name[match.start(2):end])
        name, at = name[:match.start()] + f"_GLOBAL__N_{stem}" + name[end:], match.start() + 1
    return name


class Operands:
    """The operands of one instruction, and the statements that it becomes."""

    def __init__(self, kernel, opcode, texts, line):
        self.kernel, self.opcode, self.texts, self.number, self.lines = kernel, opcode, texts, line, []
        self.known = set()  # those that the rule has looked at

    def text(self, k):
        if k >= len(self.texts):
            self.wrong_number()
        self.known.add(k)
        return self.texts[k]

    def wrong_number(self):
        raise UnknownInstruction(f"{self.opcode} with {len(self.texts)} operands")

    def vector(self, k):
        text = self.text(k)
        return [part.strip() for part in text[1:-1].split(",")] if text.startswith("{") else []

    def line(self, text):
        self.lines.append(text)

    def use(self, k, kind, narrowing=False):
        return self.read(self.text(k), kind, narrowing)

    def put(self, k, kind, value, widening=False):
        self.write(self.text(k), kind, value, widening)

    def read(self, text, kind, narrowing=False):
        """An operand as a value of that type."""
        kind_bits, of = width(kind), TYPES[kind]
        if text in SPECIAL:
            return f"{of}({SPECIAL[text]})"
        if match := re.fullmatch(r"0([fF][0-9a-fA-F]{8}|[dD][0-9a-fA-F]{16})", text):
            bits = 4 * len(match[1]) - 4
            self.expect(bits == kind_bits, f"{text} is no number of {kind_bits} bits")
            return f"__builtin_bit_cast({of}, std::uint{bits}_t(0x{match[1][1:]}))"
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
            self.expect(kind[0] != "f", f"{text} is no floating-point number")
            number = int(text.rstrip("U"), 0) % (1 << (1 if kind == "pred" else 64))
            return f"{of}({number % (1 << kind_bits):#x}{'ull' if kind_bits == 64 else 'u'})"
        if text.startswith("!") and kind == "pred":
            return f"!{self.read(text[1:], kind)}"
        if text.startswith("%"):
            declared = self.kernel.register(text)
            bits = width(declared)
            self.expect(bits == kind_bits or narrowing and bits > kind_bits, f"{text} has {bits} bits")
            name = self.kernel.variable(text)
            if TYPES[declared] == of:
                return name
            if "f" in (kind[0], declared[0]):
                return f"__builtin_bit_cast({of}, {name})"
            return f"{of}({name})"
        return f"{of}({self.kernel.symbol_address(text)})"

    def write(self, text, kind, value, widening=False):
        """Sets a register; integers that are wider than their type are extended by it."""
        if text == "_":
            return self.line(f"(void)({value});")
        declared = self.kernel.register(text)
        bits = width(declared)
        self.expect(bits == width(kind) or widening and bits > width(kind) and kind[0] != "f",
                    f"{text} has {bits} bits")
        self.expect((kind == "pred") == (declared == "pred"), f"{text} is no {kind}")
        name, to, of = self.kernel.variable(text), TYPES[declared], TYPES[kind]
        if "f" in (kind[0], declared[0]) and kind != declared:
            value = f"__builtin_bit_cast({to}, {of}({value}))"
        elif kind[0] != "f":
            value = f"{of}({value})"
        self.line(f"{name} = {value};")

    def address(self, k, space, count, kind):
        """The address in [base+offset] as a C++ integer; vectors must be aligned to their size, as on the device."""
        match = re.fullmatch(r"\[ ?([^\s+\]]+) ?(?:\+ ?(-?\w+))? ?\]", self.text(k))
        self.expect(match, f"{self.text(k)} is no address")
        base, offset, size = match[1], int(match[2] or "0", 0), count * width(kind) // 8
        if not base.startswith("%"):
            symbol = self.kernel.symbol(base)
            self.expect(symbol.space == space, f"{base} is not in the space .{space}")
            self.expect(symbol.size == 0 or 0 <= offset <= symbol.size - size, f"{offset} is beyond the end of {base}")
            self.expect((symbol.at + offset) % size == 0, f"{base}+{offset} is not aligned to {size}")
            return {"param": "P", "shared": "SH", "local": "local"}[space] + f" + {symbol.at + offset}"
        declared = self.kernel.register(base)
        if space == "shared" and width(declared) == 32:
            address = f"SH + std::uint32_t({self.read(base, 'u32')} + {offset % (1 << 32)}u)"
        else:
            value = self.read(base, "u64")
            address = f"{'SH + ' if space == 'shared' else ''}{value} + ({offset})"
        return f"ptx::aligned<{size}>({address}, {self.site()})" if count > 1 else address

    def label(self, name):
        if name not in self.kernel.labels:
            raise PtxError(f"no label {name}")
        return "L" + name.replace("$", "_")

    def site(self):
        return f'cuemu::Site{{"{self.opcode}", file, {self.number}}}'

    def barrier_site(self):  # all barriers of a kernel are barrier 0, wherever they stand
        return f'cuemu::Site{{"{self.opcode} in line {self.number}", file, 0}}'

    def expect(self, condition, complaint):
        if not condition:
            raise PtxError(f"{complaint}: {self.opcode} {', '.join(self.texts)}")


class Kernel:
    def __init__(self, name, parameters, threads, symbols):
        self.name, self.threads, self.parameters = name, threads, parameters
        self.symbols = dict(symbols) | {p: s for p, s in parameters}
        self.scopes, self.labels = [{}], set()
        self.shared = self.local = 0
        self.lines = []

    def register(self, name):
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        raise PtxError(f"no register {name}")

    def variable(self, name):
        return re.sub(r"\W", "_", name[1:]) + "_"

    def symbol(self, name):
        if name not in self.symbols:
            raise PtxError(f"no symbol {name}")
        return self.symbols[name]

    def place_shared(self, name, size, align):
        at = aligned(self.shared, align)
        self.shared = at + size
        self.symbols[name] = Symbol("shared", at, size, align)

    def symbol_address(self, name):
        symbol = self.symbol(name)
        if symbol.space == "shared":
            return str(symbol.at)
        return f"{'P' if symbol.space == 'param' else 'local'} + {symbol.at}"

    def translate(self, statements):
        """The body: statements with their lines."""
        self.labels = {text[:-1] for text, _ in statements if text.endswith(":")}
        self.place_arrays(statements)
        for text, line in statements:
            try:
                self.statement(text, line)
            except (PtxError, UnknownInstruction) as error:
                kind = "unknown instruction: " if isinstance(error, UnknownInstruction) else ""
                raise PtxError(f"{line}: {kind}{error}") from None

    def place_arrays(self, statements):
        """Shared memory: arrays of the module that the kernel names, its own, then the launch's."""
        names = {word for text, _ in statements for word in re.findall(r"[\w$]+", text)}
        arrays = [(name, s.size, s.align) for name, s in self.symbols.items() if s.space == "shared" and name in names]
        for text, _ in statements:
            if match := SHARED_ARRAY.fullmatch(text):
                arrays.append((match["name"], int(match["size"]), int(match["align"])))
        for name, size, align in sorted(arrays, key=lambda array: array[1] == 0):
            self.place_shared(name, size, align if size else max(16, align))

    def statement(self, text, line):
        if text.endswith(":"):
            self.lines.append(f"L{text[:-1].replace('$', '_')}:;")
        elif text == "{":
            self.scopes.append({})
            self.lines.append("{")
        elif text == "}":
            self.scopes.pop()
            self.lines.append("}")
        elif text.startswith(".reg "):
            self.declare(text)
        elif match := LOCAL_ARRAY.fullmatch(text):
            at = aligned(self.local, int(match["align"]))
            self.local = at + int(match["size"])
            self.symbols[match["name"]] = Symbol("local", at, int(match["size"]), int(match["align"]))
        elif not text.startswith(".pragma") and not SHARED_ARRAY.fullmatch(text):
            self.instruction(text, line)

    def declare(self, text):
        """Registers start as the emulator's memory does: -1 and NaN."""
        match = re.fullmatch(r"\.reg \.(\w+) (.*)", text)
        if not match or match[1] not in TYPES:
            raise UnknownInstruction(text)
        names = []
        for part in match[2].split(","):
            many = re.fullmatch(r"(%[\w.]+)<(\d+)>", part.strip())
            names += [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [part.strip()]
        self.scopes[-1] |= {name: match[1] for name in names}
        kind = match[1]
        first = {"pred": "true", "f32": "ptx::nan_float", "f64": "ptx::nan_double"}.get(kind, f"{TYPES[kind]}(-1)")
        self.lines.append(f"{TYPES[kind]} " + ", ".join(f"{self.variable(name)} = {first}" for name in names) + ";")

    def instruction(self, text, line):
        match = re.fullmatch(r"(?:@(?P<guard>!?%\w+) )?(?P<opcode>[\w.]+)(?: (?P<rest>.*))?", text)
        if not match:
            raise UnknownInstruction(text)
        texts = [part.strip() for part in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,{\[]+", match["rest"] or "")]
        operands = Operands(self, match["opcode"], [part for part in texts if part], line)
        instructions.translate(match["opcode"], operands)
        if len(operands.known) != len(operands.texts):
            operands.wrong_number()
        body = " ".join(operands.lines)
        if match["guard"]:
            self.lines.append(f"if ({operands.read(match['guard'], 'pred')}) {{ {body} }}")
        else:
            self.lines.append(body if len(operands.lines) == 1 else f"{{ {body} }}")


class Module:
    """A PTX file, statement by statement; whatever stands between its kernels must be known, too."""

    def __init__(self, path):
        self.file = pathlib.Path(path).name
        text = pathlib.Path(path).read_text()
        self.text = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
        self.line_ends = [m.start() for m in re.finditer("\n", self.text)]
        self.symbols, self.kernels, self.at = {}, [], 0
        try:
            while self.text[self.at:].strip():
                self.directive()
        except PtxError as error:
            message = str(error)
            raise PtxError(f"{path}:{message if message[0].isdigit() else f'{self.line()}: {message}'}") from None

    def line(self, at=None):
        return bisect.bisect_left(self.line_ends, self.at if at is None else at) + 1

    def take(self, pattern):
        match = re.compile(pattern, re.S).match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def directive(self):
        self.take(r"\s+")
        word = re.compile(r"[^\s(]*").match(self.text, self.at)[0]
        if word in LINE_DIRECTIVES:
            line = self.take(r"[^\n]*")[0].split()
            if word == ".address_size" and line[1:] != ["64"]:
                raise PtxError("addresses must have 64 bits")
        elif match := self.take(r"(?:\.visible\s+|\.weak\s+)*\.entry\s+([\w$]+)\s*\(([^)]*)\)\s*([^{;]*)(?=\{)"):
            self.kernel(*match.groups())
        elif self.text.startswith(".section", self.at):
            self.take(r"[^{]*\{[^}]*\}")
        elif match := self.take(r"((?:\.extern\s+)?\.shared[^;]*);"):
            array = SHARED_ARRAY.fullmatch(" ".join(match[1].replace(".extern", "").split()))
            if not array:
                raise PtxError(f"unknown declaration: {match[1]}")
            self.symbols[array["name"]] = Symbol("shared", 0, int(array["size"] or 0), int(array["align"]))
        else:
            raise PtxError(f"unknown directive: {self.text[self.at:].splitlines()[0]}")

    def kernel(self, name, parameters, directives):
        threads = re.search(r"\.maxntid (\d+), (\d+), (\d+)", directives)
        rest = re.sub(r"\.(maxntid|reqntid) \d+(, \d+)*|\.(minnctapersm|maxnreg|pragma) [^\n]*", "", directives).strip()
        if rest:
            raise PtxError(f"unknown directive: {rest}")
        most = 1024 if not threads else int(threads[1]) * int(threads[2]) * int(threads[3])
        kernel = Kernel(name, list(self.parameters(parameters)), most, self.symbols)
        kernel.translate(self.statements())
        self.kernels.append(kernel)

    def parameters(self, text):
        end = 0
        for part in filter(None, (" ".join(part.split()) for part in text.split(","))):
            match = PARAMETER.fullmatch(part)
            if not match or match["kind"] not in TYPES:
                raise PtxError(f"unknown parameter: {part}")
            unit = width(match["kind"]) // 8
            size, align = unit * int(match["size"] or 1), int(match["align"] or unit)
            at = aligned(end, align)
            end = at + size
            yield match["name"], Symbol("param", at, size, align)

    def statements(self):
        """Those of the braces at `at`, with their lines."""
        found, depth = [], 0
        while True:
            self.take(r"\s+")
            start, match = self.at, STATEMENT.match(self.text, self.at)
            if not match:
                rest = self.text[self.at:].splitlines()
                raise PtxError(f"no statement: {rest[0]}" if rest else "the kernel's end is missing")
            self.at = match.end()
            if match["open"]:
                depth += 1
            elif match["close"]:
                depth -= 1
                if depth == 0:
                    return found[1:]
            if not match["loc"]:
                text = match["label"] + ":" if match["label"] else " ".join(match[0].rstrip(";").split())
                found.append((text, self.line(start)))

    def write(self, out):
        out.write(f'// made by translate.py from {self.file}\n#include "ptx.h"\nnamespace {{\n'
                  f'const char file[] = "{self.file}";\n')
        for index, kernel in enumerate(self.kernels):
            out.write(f"void kernel_{index}([[maybe_unused]] std::uint64_t P, [[maybe_unused]] std::uint64_t SH) {{\n")
            if kernel.local:
                out.write(f"alignas(16) unsigned char stack[{kernel.local}];\nstd::memset(stack, 0xff, sizeof stack);\n"
                          "const auto local = reinterpret_cast<std::uint64_t>(stack);\n")
            out.write("\n".join(kernel.lines) + "\n}\n")
        out.write("const ptx::Module module({\n")
        for index, kernel in enumerate(self.kernels):
            parameters = ", ".join(f"{{{s.at}, {s.size}}}" for _, s in kernel.parameters)
            out.write(f'{{"{canonical(kernel.name)}", kernel_{index}, {kernel.shared}, {kernel.threads}, '
                      f'{{{parameters}}}}},\n')
        out.write("});\n}\n")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[0])
    try:
        module = Module(sys.argv[1])
    except (PtxError, OSError) as error:
        sys.exit(f"error: {error}")
    with open(sys.argv[2], "w") as out:
        module.write(out)


if __name__ == "__main__":
    main()
