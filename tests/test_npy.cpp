// test_npy.cpp - files built byte by byte here, so that reader and writer are not each other's only witness.
#include "engine/npy.h"
#include "expect_error.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace dynkin {
namespace {

using cases::expect_error;

class NpyTest : public testing::Test {
  protected:
    void SetUp() override {
        folder = std::filesystem::temp_directory_path() /
                 fmt::format("dynkin-{}-npy-{}", ::getpid(),
                             testing::UnitTest::GetInstance()->current_test_info()->name());
        std::filesystem::create_directories(folder);
    }
    void TearDown() override { std::filesystem::remove_all(folder); }

    std::filesystem::path put(const std::string& name, const std::string& bytes) const {
        std::ofstream(folder / name, std::ios::binary) << bytes;
        return folder / name;
    }
    std::filesystem::path folder;
};

std::string little(std::uint64_t value, int bytes) {
    std::string text;
    for (int k = 0; k < bytes; ++k) text += static_cast<char>(value >> (8 * k) & 0xff);
    return text;
}

std::string npy(const std::string& dict, const std::string& data, int version = 1) {
    return std::string("\x93NUMPY") + static_cast<char>(version) + '\0' +
           little(dict.size(), version == 1 ? 2 : 4) + dict + data;
}

std::string dict(const std::string& descr, const std::string& shape, bool fortran = false) {
    return fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}   \n", descr,
                       fortran ? "True" : "False", shape);
}

/// The bytes of one number of a NumPy type, most significant first when `big`.
std::string number(char kind, int bytes, bool big, double value) {
    std::uint64_t bits = 0;
    if (kind == 'f' && bytes == 4) {
        const auto narrow = static_cast<float>(value);
        std::uint32_t low;
        std::memcpy(&low, &narrow, 4);
        bits = low;
    } else if (kind == 'f') {
        std::memcpy(&bits, &value, 8);
    } else {
        bits = static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
    }
    std::string text = little(bits, bytes);
    if (big) std::reverse(text.begin(), text.end());
    return text;
}

void expect_rejected(const std::filesystem::path& path, std::vector<std::string> parts) {
    parts.push_back(path.string());
    expect_error(ErrorKind::input, parts, [&] { SampleFile file(path); });
}

TEST_F(NpyTest, ReadsByHand) {
    const auto path =
        put("x.npy", npy(dict("<f8", "(2, 1)"), std::string("\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\x04\xc0", 16)));
    const SampleFile file(path);
    EXPECT_EQ(file.rows(), 2u);
    EXPECT_EQ(file.cols(), 1u);
    EXPECT_EQ(file.header().type.descr(), "<f8");
    EXPECT_EQ(file.path(), path);
    double x[2];
    file.read(0, 2, x);
    EXPECT_EQ(x[0], 1.0);
    EXPECT_EQ(x[1], -2.5);
}

TEST_F(NpyTest, EveryTypeOrderAndShape) {
    const std::vector<std::pair<char, int>> types{{'f', 4}, {'f', 8}, {'i', 1}, {'i', 2}, {'i', 4}, {'i', 8},
                                                  {'u', 1}, {'u', 2}, {'u', 4}, {'u', 8}, {'b', 1}};
    const std::size_t rows = 5, a = 3, b = 2, cols = a * b;
    for (const auto& [kind, bytes] : types)
        for (const bool big : {false, true})
            for (const bool fortran : {false, true})
                for (const int version : {1, 2, 3}) {
                    const auto value = [&, kind = kind](std::size_t n, std::size_t i, std::size_t j) {
                        const auto v = static_cast<double>(20 * n + 5 * i + j) + 1;
                        return kind == 'b'   ? std::fmod(v, 2)
                               : kind == 'u' ? v
                               : kind == 'i' ? 50 - v
                                             : v / 4 - 7;
                    };
                    std::string data;
                    if (fortran)
                        for (std::size_t j = 0; j < b; ++j)
                            for (std::size_t i = 0; i < a; ++i)
                                for (std::size_t n = 0; n < rows; ++n)
                                    data += number(kind, bytes, big, value(n, i, j));
                    else
                        for (std::size_t n = 0; n < rows; ++n)
                            for (std::size_t i = 0; i < a; ++i)
                                for (std::size_t j = 0; j < b; ++j)
                                    data += number(kind, bytes, big, value(n, i, j));
                    const std::string descr = fmt::format("{}{}{}",
                                                          bytes == 1 ? '|'
                                                          : big      ? '>'
                                                                     : '<',
                                                          kind, bytes);
                    const SampleFile file(
                        put("x.npy", npy(dict(descr, "(5, 3, 2)", fortran), data, version)));
                    ASSERT_EQ(file.cols(), cols);
                    EXPECT_EQ(file.header().type.descr(), descr);
                    EXPECT_EQ(file.sample_shape(), (std::vector<std::size_t>{3, 2}));
                    std::vector<double> wide(3 * cols);
                    std::vector<float> narrow(3 * cols);
                    file.read(1, 3, wide.data());
                    file.read(1, 3, narrow.data());
                    for (std::size_t k = 0; k < wide.size(); ++k) {
                        const double expected = value(1 + k / cols, k % cols / b, k % b);
                        ASSERT_EQ(wide[k], expected) << descr << fortran << k;
                        ASSERT_EQ(narrow[k], static_cast<float>(expected)) << descr << fortran << k;
                    }
                }
}

TEST_F(NpyTest, ExtremesOfIntegers) {
    double x[2];
    SampleFile(put("i.npy", npy(dict("<i8", "(2,)"), little(1ull << 63, 8) + little(~0ull, 8))))
        .read(0, 2, x);
    EXPECT_EQ(x[0], -std::ldexp(1.0, 63));
    EXPECT_EQ(x[1], -1.0);
    SampleFile(put("u.npy", npy(dict("<u8", "(2,)"), little(1ull << 63, 8) + little(~0ull, 8))))
        .read(0, 2, x);
    EXPECT_EQ(x[0], std::ldexp(1.0, 63));
    EXPECT_EQ(x[1], std::ldexp(1.0, 64));
}

/// Sizes around the blocks of the reader: runs of 512 rows, tiles of 16 columns, pieces of 2048 numbers, 4
/// MiB blocks.
TEST_F(NpyTest, LargeArraysInBothOrders) {
    for (const auto& [rows, cols] : std::vector<std::pair<std::size_t, std::size_t>>{
             {10007, 3}, {513, 17}, {1, 31}, {40000, 33}, {600, 1}}) {
        std::vector<double> c_order(rows * cols), fortran(rows * cols), got(rows * cols);
        for (std::size_t n = 0; n < rows; ++n)
            for (std::size_t j = 0; j < cols; ++j)
                c_order[n * cols + j] = fortran[j * rows + n] =
                    static_cast<double>(n) + 1e-3 * static_cast<double>(j);
        const auto bytes = [](const std::vector<double>& v) {
            return std::string(reinterpret_cast<const char*>(v.data()), v.size() * 8);
        };
        const std::string shape = fmt::format("({}, {})", rows, cols);
        const SampleFile c(put("c.npy", npy(dict("<f8", shape), bytes(c_order))));
        const SampleFile f(put("f.npy", npy(dict("<f8", shape, true), bytes(fortran))));
        c.read(0, rows, got.data());
        EXPECT_EQ(got, c_order);
        f.read(0, rows, got.data());
        EXPECT_EQ(got, c_order);
        const std::size_t first = rows / 3, count = rows - first;
        f.read(first, count, got.data());
        EXPECT_TRUE(std::equal(got.begin(), got.begin() + static_cast<std::ptrdiff_t>(count * cols),
                               c_order.begin() + static_cast<std::ptrdiff_t>(first * cols)));
        c.read(rows, 0, got.data());
    }
}

TEST_F(NpyTest, ReleasesPagesWhileThreadsRead) {
    const std::size_t rows = 200000, cols = 64; // 102 MB: more than one release
    {
        NpyWriter writer(folder / "big.npy", {rows, cols}, 8);
        std::vector<double> row(cols);
        for (std::size_t n = 0; n < rows; n += 1) {
            std::fill(row.begin(), row.end(), static_cast<double>(n));
            writer.write(n, 1, row.data());
        }
        writer.commit();
    }
    const SampleFile file(folder / "big.npy");
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (std::size_t t = 0; t < 2; ++t)
        threads.emplace_back([&, t] {
            std::vector<float> x(1000 * cols);
            for (std::size_t n = t * 1000; n < rows; n += 2000) {
                file.read(n, 1000, x.data());
                for (std::size_t k = 0; k < x.size(); ++k) wrong += x[k] != static_cast<float>(n + k / cols);
            }
        });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
}

TEST_F(NpyTest, NotFiniteNumbersAreNamed) {
    const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
    for (const double bad : {nan, inf, -inf})
        for (const bool fortran : {false, true})
            for (const int bytes : {4, 8})
                for (const bool big : {false, true}) {
                    std::string data;
                    for (std::size_t k = 0; k < 700 * 20; ++k) {
                        const std::size_t row = fortran ? k % 700 : k / 20, col = fortran ? k / 700 : k % 20;
                        const bool hit = (row == 600 && col == 18) || (row == 601 && col == 2);
                        data += number('f', bytes, big, hit ? bad : std::numeric_limits<float>::max());
                    }
                    const auto path = put(
                        "x.npy",
                        npy(dict(fmt::format("{}f{}", big ? '>' : '<', bytes), "(700, 20)", fortran), data));
                    const SampleFile file(path);
                    std::vector<double> x(700 * 20);
                    std::vector<float> y(700 * 20);
                    const std::vector<std::string> parts{path.string(), "row 600, column 18 (counted from 0)",
                                                         "finite", fmt::format("{}", bad)};
                    expect_error(ErrorKind::input, parts, [&] { file.read(0, 700, x.data()); });
                    expect_error(ErrorKind::input, parts, [&] { file.read(550, 100, y.data()); });
                    file.read(0, 600, x.data());
                    file.read_any(0, 700, x.data());
                    EXPECT_FALSE(std::isfinite(x[600 * 20 + 18]));
                    EXPECT_TRUE(std::isfinite(x[600 * 20 + 17]));
                    if (!fortran && !big && bytes == 8) {
                        expect_error(ErrorKind::input, parts, [&] { read_npy(path); });
                        EXPECT_FALSE(std::isfinite(read_npy(path, true)(600, 18)));
                    }
                }
}

TEST_F(NpyTest, DoublesBeyondFloatAreNamed) {
    const SampleFile file(
        put("x.npy", npy(dict("<f8", "(1, 2)"), number('f', 8, false, 1) + number('f', 8, false, 1e300))));
    double x[2];
    float y[2];
    file.read(0, 1, x);
    EXPECT_EQ(x[1], 1e300);
    expect_error(ErrorKind::input, {"row 0, column 1", "range of float32", "1e+300"},
                 [&] { file.read(0, 1, y); });
}

TEST_F(NpyTest, AcceptsWhatNumpyWrites) {
    const std::string data(24, '\0');
    for (const std::string header :
         {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }          \n",
          "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}\n",
          "{\"shape\":(3,1),\"fortran_order\":True,\"descr\":\"<f8\"}",
          " { 'shape' : ( 3 , 1 , ) , 'fortran_order' : False , 'descr' : '<f8' , } "})
        EXPECT_EQ(SampleFile(put("x.npy", npy(header, data))).rows(), 3u) << header;
    EXPECT_TRUE(SampleFile(put("x.npy", npy(dict("<f8", "(3,)"), data))).sample_shape().empty());
}

TEST_F(NpyTest, MalformedHeaders) {
    const std::string data(24, '\0');
    const std::vector<std::pair<std::string, std::string>> cases{
        {"", "expected '{'"},
        {"[1, 2]", "expected '{', got '[1, 2]'"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,)", "expected '}'"},
        {"{'descr': '<f8', 'fortran_order': False, }", "expected the key 'shape', got none"},
        {"{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (3,)}",
         "the key 'descr' stands twice"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'x': 1}", "got 'x'"},
        {"{'descr': '<f8', 'fortran_order': 0, 'shape': (3,)}", "expected True or False"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (3)}", "a tuple of one"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': [3]}", "expected '('"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}", "expected a length"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (03,)}", "expected a length"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (3L,)}", "got 'L,)}'"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,)} x",
         "expected the end of the header, got 'x'"},
        {"{'descr': '<f8, 'fortran_order': False, 'shape': (3,)}", "expected"},
        {"{'descr': '<f8\\'', 'fortran_order': False, 'shape': (3,)}", "a string without escapes"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999,)}", "overflows"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "overflows"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,)}", "overflows"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': ()}",
         "expected (N), (N, d) or (N, *lattice), got ()"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (0,)}", "expected at least one row, got (0,)"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 0)}",
         "expected at least one column, got (3, 0)"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296)}",
         "at least one row"},
        {std::string("{\0'descr': '<f8'}", 17), "expected a key or '}', got '?'"},
    };
    for (const auto& [header, message] : cases) expect_rejected(put("x.npy", npy(header, data)), {message});
    std::string axes = "(";
    for (int k = 0; k < 33; ++k) axes += "1, ";
    expect_rejected(put("x.npy", npy(dict("<f8", axes + ")"), data)), {"at most 32 axes"});
}

TEST_F(NpyTest, TypesThatAreNotRealNumbers) {
    const std::vector<std::pair<std::string, std::string>> cases{
        {"|O", "Python objects"}, {"<c16", "complex"},
        {"|V8", "void"},          {"|S5", "bytes"},
        {"<U5", "text"},          {"<f2", "'<f2'"},
        {"<f16", "'<f16'"},       {"<M8[s]", "time"},
        {"f8", "'f8'"},           {"", "''"},
        {"<b2", "'<b2'"},         {"|f8", "'|f8'"},
        {"<i3", "'<i3'"},         {"<f88888888888888888888", "expected f4"}};
    for (const auto& [descr, message] : cases)
        expect_rejected(put("x.npy", npy(dict(descr, "(3,)"), std::string(24, '\0'))),
                        {"dtype: expected f4, f8", message});
    expect_rejected(
        put("x.npy", npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3,), }", "")),
        {"dtype", "a structured type (void)"});
}

TEST_F(NpyTest, DamagedFiles) {
    const std::string good = npy(dict("<f8", "(3,)"), std::string(24, '\0'));
    expect_rejected(put("x.npy", ""), {"empty file"});
    expect_rejected(put("x.npy", "hello world, this is text"),
                    {"first bytes 93 4e 55 4d 50 59", "68 65 6c 6c 6f 20"});
    expect_rejected(put("x.npy", "PK\x03\x04............"), {"zip or .npz"});
    expect_rejected(put("x.npy", "\x93N"), {"truncated", "got 2"});
    expect_rejected(put("x.npy", good.substr(0, 9)), {"truncated", "got 9"});
    expect_rejected(put("x.npy", npy("", "", 2).substr(0, 11)), {"truncated", "12 bytes"});
    expect_rejected(put("x.npy", good.substr(0, 40)), {"truncated", "of header, got 30"});
    expect_rejected(put("x.npy", good.substr(0, good.size() - 1)),
                    {"truncated: expected 24 bytes of data for shape (3,) of <f8, got 23"});
    expect_rejected(put("x.npy", good.substr(0, good.size() - 24)), {"truncated", "got 0"});
    expect_rejected(put("x.npy", good + "x"), {"trailing bytes: expected 24", "got 25"});
    expect_rejected(put("x.npy", npy(dict("<f8", "(3,)"), "", 4)), {"version 1.0, 2.0 or 3.0, got 4.0"});
    expect_rejected(put("x.npy", npy(dict("<f8", "(3,)"), "", 0)), {"got 0.0"});
    expect_rejected(put("x.npy", std::string("\x93NUMPY\x02\0", 8) + little(1u << 30, 4) + good),
                    {"header length: expected at most 65536 bytes, got 1073741824"});
}

TEST_F(NpyTest, FilesThatCannotBeMapped) {
    expect_error(ErrorKind::io, {"absent.npy", "No such file"},
                 [&] { SampleFile file(folder / "absent.npy"); });
    expect_error(ErrorKind::io, {folder.string(), "directory"}, [&] { SampleFile file(folder); });
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    expect_error(ErrorKind::io, {"pipe", "expected a regular file"},
                 [&] { SampleFile file(folder / "pipe"); });
    expect_error(ErrorKind::io, {"/dev/zero", "device"}, [&] { SampleFile file("/dev/zero"); });
    expect_error(ErrorKind::io, {"loop", "symbolic links"}, [&] {
        std::filesystem::create_symlink("loop", folder / "loop");
        SampleFile file(folder / "loop");
    });
    if (::geteuid() != 0) {
        const auto path = put("secret.npy", "");
        ::chmod(path.c_str(), 0);
        expect_error(ErrorKind::io, {"secret.npy", "Permission denied"}, [&] { SampleFile file(path); });
    }
}

TEST_F(NpyTest, TruncationWhileMappedIsAnErrorNotASignal) {
    const auto path = put("x.npy", npy(dict("<f8", "(100000,)"), std::string(800000, '\0')));
    const SampleFile file(path);
    std::filesystem::resize_file(path, 100);
    std::vector<double> x(100000);
    expect_error(ErrorKind::io, {"x.npy", "shrank", "got 100"}, [&] { file.read(0, 100000, x.data()); });
}

TEST_F(NpyTest, RowsOutOfRangeAreTheCallersMistake) {
    const SampleFile file(put("x.npy", npy(dict("<f8", "(3,)"), std::string(24, '\0'))));
    double x[4];
    expect_error(ErrorKind::usage, {"rows 1 + 3"}, [&] { file.read(1, 3, x); });
    expect_error(ErrorKind::usage, {"expected at most 3"}, [&] { file.read(SIZE_MAX, 2, x); });
}

TEST_F(NpyTest, MovedFileReads) {
    SampleFile first(put("x.npy", npy(dict("<f8", "(1,)"), number('f', 8, false, 3.5))));
    const SampleFile second(std::move(first));
    double x = 0;
    second.read(0, 1, &x);
    EXPECT_EQ(x, 3.5);
}

TEST_F(NpyTest, FingerprintFollowsContent) {
    std::string bytes = npy(dict("<f8", "(100000,)"), std::string(800000, '\0'));
    const auto path = put("x.npy", bytes);
    const auto time = std::filesystem::last_write_time(path);
    const std::uint64_t before = SampleFile(path).fingerprint();
    EXPECT_EQ(SampleFile(path).fingerprint(), before);
    bytes.back() = 1;
    put("x.npy", bytes);
    std::filesystem::last_write_time(path, time);
    EXPECT_NE(SampleFile(path).fingerprint(), before);
    bytes.back() = 0;
    put("x.npy", bytes);
    std::filesystem::last_write_time(path, time);
    EXPECT_EQ(SampleFile(path).fingerprint(), before);
    std::filesystem::last_write_time(path, time + std::chrono::seconds(1));
    EXPECT_NE(SampleFile(path).fingerprint(), before);
}

TEST_F(NpyTest, WriterByHand) {
    const double x[4] = {1, -2.5, 0, 1e300};
    const float y[2] = {7, 8};
    {
        NpyWriter writer(folder / "x.npy", {3, 2}, 8);
        writer.write(1, 2, x);
        writer.write(0, 1, y); // rows in any order, converted
        EXPECT_EQ(writer.rows_present(), 3u);
        EXPECT_FALSE(std::filesystem::exists(folder / "x.npy"));
        writer.commit();
    }
    std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }";
    header.resize(117, ' ');
    const std::string expected = std::string("\x93NUMPY\x01\0\x76\0", 10) + header + "\n" +
                                 number('f', 8, false, 7) + number('f', 8, false, 8) +
                                 number('f', 8, false, 1) + number('f', 8, false, -2.5) +
                                 number('f', 8, false, 0) + number('f', 8, false, 1e300);
    EXPECT_EQ(read_file(folder / "x.npy"), expected);
}

TEST_F(NpyTest, RoundTrips) {
    Array<double> wide(70001, 2); // conversion goes by pieces of 65536 numbers
    for (std::size_t k = 0; k < wide.size(); ++k) wide[k] = static_cast<double>(k) / 8;
    write_npy(folder / "wide.npy", wide);
    const Array<double> back = read_npy(folder / "wide.npy");
    EXPECT_EQ(back.rows(), 70001u);
    EXPECT_TRUE(std::equal(wide.begin(), wide.end(), back.begin()));
    NpyWriter writer(folder / "narrow.npy", {70001, 2}, 4);
    writer.write(0, 70001, wide.data());
    writer.commit();
    EXPECT_EQ(SampleFile(folder / "narrow.npy").header().type.descr(), "<f4");
    const Array<double> narrow = read_npy(folder / "narrow.npy");
    EXPECT_TRUE(std::equal(wide.begin(), wide.end(), narrow.begin())); // k / 8 < 2^15 is exact in float32

    Array<float> column(3);
    write_npy(folder / "flat.npy", column, true);
    EXPECT_TRUE(SampleFile(folder / "flat.npy").sample_shape().empty());
    write_npy(folder / "column.npy", column);
    EXPECT_EQ(SampleFile(folder / "column.npy").sample_shape(), std::vector<std::size_t>{1});
}

TEST_F(NpyTest, WriterResumes) {
    const auto path = folder / "x.npy";
    const double x[3] = {1, 2, 3};
    {
        NpyWriter writer(path, {3}, 8);
        writer.write(0, 2, x);
        writer.keep();
    }
    expect_error(ErrorKind::input, {"cannot resume", "(4,)"},
                 [&] { NpyWriter w(path, {4}, 8, OutputFile::Mode::resume); });
    expect_error(ErrorKind::input, {"cannot resume", "<f4"},
                 [&] { NpyWriter w(path, {3}, 4, OutputFile::Mode::resume); });
    NpyWriter writer(path, {3}, 8, OutputFile::Mode::resume);
    EXPECT_EQ(writer.rows_present(), 2u);
    expect_error(ErrorKind::usage, {"expected 3 rows before commit, got 2"}, [&] { writer.commit(); });
    writer.write(2, 1, x + 2);
    writer.commit();
    EXPECT_EQ(read_npy(path)[0], 1);
    EXPECT_EQ(read_npy(path)[2], 3);
    expect_error(ErrorKind::io, {"cannot resume", "No such file"},
                 [&] { NpyWriter w(path, {3}, 8, OutputFile::Mode::resume); });
}

TEST_F(NpyTest, WriterRefusesNonsense) {
    const double x[3] = {};
    expect_error(ErrorKind::usage, {"4 or 8 bytes"}, [&] { NpyWriter w(folder / "x.npy", {3}, 2); });
    expect_error(ErrorKind::usage, {"a shape"}, [&] { NpyWriter w(folder / "x.npy", {}, 8); });
    expect_error(ErrorKind::usage, {"a shape"}, [&] { NpyWriter w(folder / "x.npy", {SIZE_MAX, 2}, 8); });
    NpyWriter writer(folder / "x.npy", {2}, 8);
    expect_error(ErrorKind::usage, {"rows 0 + 3"}, [&] { writer.write(0, 3, x); });
    expect_error(ErrorKind::usage, {"rows 3 + 0"}, [&] { writer.write(3, 0, x); });
    EXPECT_FALSE(std::filesystem::exists(folder / "x.npy"));
}

} // namespace
} // namespace dynkin
