// test_tensor_file.cpp - containers built byte by byte here, and every way in which one can lie.
#include "engine/file.h"
#include "engine/tensor_file.h"
#include "expect_error.h"
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <sys/stat.h>
#include <unistd.h>

namespace dynkin {
namespace {

using cases::expect_error;

class TensorFileTest : public testing::Test {
  protected:
    void SetUp() override {
        folder = std::filesystem::temp_directory_path() /
                 fmt::format("dynkin-{}-tensor-{}", ::getpid(),
                             testing::UnitTest::GetInstance()->current_test_info()->name());
        std::filesystem::create_directories(folder);
    }
    void TearDown() override { std::filesystem::remove_all(folder); }

    std::filesystem::path put(const std::string& bytes) const {
        std::ofstream(folder / "x", std::ios::binary) << bytes;
        return folder / "x";
    }
    std::filesystem::path folder;
};

std::string little(std::uint64_t value) {
    std::string text;
    for (int k = 0; k < 8; ++k) text += static_cast<char>(value >> (8 * k) & 0xff);
    return text;
}

std::string container(const std::string& header, const std::string& data) {
    return little(header.size()) + header + data;
}

const std::string about = R"("__metadata__":{"checksum":"0","format":"m","format_version":"1"})";

/// A header with sound metadata and the entries given.
std::string header(const std::string& entries) {
    return "{" + about + (entries.empty() ? "" : "," + entries) + "}";
}

std::string entry(const std::string& name, const std::string& shape, const std::string& offsets,
                  const std::string& type = "F64") {
    return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, type, shape, offsets);
}

TensorFile example() {
    TensorFile file;
    file.format = "m";
    file.version = 2;
    file.metadata["configuration"] = R"({"seed": 7, "name": "é"})";
    file.put(
        "b",
        {1, -2.5, std::numeric_limits<double>::quiet_NaN(), 0, 5, -std::numeric_limits<double>::infinity()},
        {2, 3});
    file.put("counts", std::vector<std::uint64_t>{~0ull, 1});
    file.put("a", std::vector<std::int64_t>{-1});
    file.put("none", std::vector<double>{});
    return file;
}

void expect_rejected(const std::filesystem::path& path, std::vector<std::string> parts) {
    parts.push_back(path.string());
    expect_error(ErrorKind::input, parts, [&] { read_tensor_file(path, "m"); });
}

TEST_F(TensorFileTest, BytesByHand) {
    TensorFile file;
    file.format = "m";
    file.metadata["k"] = "v";
    file.put("x", std::vector<double>{1.0, -2.5});
    write_tensor_file(folder / "x", file);

    const std::string data("\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\x04\xc0", 16);
    std::uint64_t sum = 0;
    for (const std::string& text : {std::string("x"), std::string("F64"), std::string("2"), data,
                                    std::string("format"), std::string("m"), std::string("format_version"),
                                    std::string("1"), std::string("k"), std::string("v")})
        sum = checksum(std::string_view(text), sum);
    std::string expected = fmt::format(
        R"({{"__metadata__":{{"checksum":"{:016x}","format":"m","format_version":"1","k":"v"}},"x":{{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}}})",
        sum);
    expected.resize((expected.size() + 7) / 8 * 8, ' ');
    EXPECT_EQ(read_file(folder / "x"), container(expected, data));
}

TEST_F(TensorFileTest, RoundTrip) {
    const TensorFile file = example();
    write_tensor_file(folder / "x", file);
    const TensorFile back = read_tensor_file(folder / "x", "m", 2);
    EXPECT_EQ(back.version, 2);
    EXPECT_EQ(back.source, (folder / "x").string());
    EXPECT_EQ(back.metadata, file.metadata);
    EXPECT_EQ(back.tensors.size(), 4u);
    EXPECT_EQ(back.tensors.at("b").shape, (std::vector<std::size_t>{2, 3}));
    EXPECT_EQ(std::memcmp(back.f64("b", 6).data(), file.f64("b").data(), 48), 0);
    EXPECT_EQ(back.u64("counts", 2), file.u64("counts"));
    EXPECT_EQ(back.i64("a", 1), file.i64("a"));
    EXPECT_TRUE(back.f64("none", 0).empty());
    EXPECT_TRUE(back.u64("none").empty());
    write_tensor_file(folder / "y", example());
    EXPECT_EQ(read_file(folder / "x"), read_file(folder / "y"));
}

TEST_F(TensorFileTest, OrderOfDataInTheFileDoesNotMatter) { // other programs write tensors in their own order
    TensorFile file;
    file.format = "m";
    file.put("a", std::vector<double>{1});
    file.put("b", std::vector<double>{2});
    write_tensor_file(folder / "x", file);
    std::string bytes = read_file(folder / "x");
    const auto swap = [&](const std::string& from, const std::string& to) {
        bytes.replace(bytes.find(from), from.size(), to);
    };
    swap("[0,8]", "[8,16]");
    bytes.replace(bytes.rfind("[8,16]"), 6, "[0,8]");
    const std::string tail = bytes.substr(bytes.size() - 16);
    bytes = bytes.substr(0, bytes.size() - 16) + tail.substr(8) + tail.substr(0, 8);
    const TensorFile back = read_tensor_file(put(bytes), "m");
    EXPECT_EQ(back.f64("a")[0], 1);
    EXPECT_EQ(back.f64("b")[0], 2);
}

TEST_F(TensorFileTest, TextThatIsNotUtf8) {
    TensorFile file;
    file.format = "m";
    file.metadata["path"] = "a\xff\n\"b";
    write_tensor_file(folder / "x", file);
    EXPECT_EQ(read_tensor_file(folder / "x", "m").text("path"), "a\xef\xbf\xbd\n\"b");
}

TEST_F(TensorFileTest, LookUps) {
    TensorFile file = example();
    file.source = "model.dynkin";
    expect_error(ErrorKind::input, {"model.dynkin: tensor 'zz': expected one, got none"},
                 [&] { file.f64("zz"); });
    expect_error(ErrorKind::input, {"tensor 'a': expected F64, got I64"}, [&] { file.f64("a"); });
    expect_error(ErrorKind::input, {"tensor 'b': expected U64, got F64"}, [&] { file.u64("b"); });
    expect_error(ErrorKind::input, {"tensor 'counts': expected I64, got U64"}, [&] { file.i64("counts"); });
    expect_error(ErrorKind::input, {"tensor 'b': expected 7 numbers, got 6"}, [&] { file.f64("b", 7); });
    expect_error(ErrorKind::input, {"metadata 'zz'"}, [&] { file.text("zz"); });
    EXPECT_EQ(file.text("configuration"), R"({"seed": 7, "name": "é"})");
}

TEST_F(TensorFileTest, InconsistentTensorsAreTheCallersMistake) {
    TensorFile file;
    expect_error(ErrorKind::usage, {"tensor 'x'", "(2, 2)"}, [&] { file.put("x", {1, 2, 3}, {2, 2}); });
    expect_error(ErrorKind::usage, {"tensor 'x'"}, [&] { file.put("x", {1}, {SIZE_MAX, SIZE_MAX}); });
    file.tensors["both"] = {{1}, {1.0}, {1}, {}};
    expect_error(ErrorKind::usage, {"tensor 'both'", "2 type(s)"},
                 [&] { write_tensor_file(folder / "x", file); });
    EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

TEST_F(TensorFileTest, FlippedBitsAreFound) {
    write_tensor_file(folder / "good", example());
    const std::string good = read_file(folder / "good");
    const std::filesystem::path path = put(good);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto set = [&](std::size_t k, char byte) {
        file.seekp(static_cast<std::streamoff>(k)).put(byte).flush();
    };
    for (std::size_t k = 0; k < good.size() * 8; ++k) {
        set(k / 8, static_cast<char>(good[k / 8] ^ (1 << k % 8)));
        try {
            const TensorFile back = read_tensor_file(path, "m", 2);
            // Harmless changes only: the padding of the header (space to tab and the like).
            EXPECT_EQ(good[k / 8], ' ') << k;
            EXPECT_EQ(back.metadata, example().metadata) << k;
        } catch (const Error& error) {
            EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(ErrorKind::input)) << error.what();
        }
        set(k / 8, good[k / 8]);
    }
    std::string bytes = good;
    bytes.back() ^= 1;
    expect_error(ErrorKind::input, {"/x: checksum: the content gives", "damaged"},
                 [&] { read_tensor_file(put(bytes), "m", 2); });
}

TEST_F(TensorFileTest, EveryTruncationIsFound) {
    write_tensor_file(folder / "good", example());
    const std::string good = read_file(folder / "good");
    for (std::size_t n = 0; n < good.size(); ++n)
        expect_error(ErrorKind::input, {"/x: "}, [&] { read_tensor_file(put(good.substr(0, n)), "m", 2); });
    expect_error(ErrorKind::input, {"truncated: expected 72 bytes of data, got 71"},
                 [&] { read_tensor_file(put(good.substr(0, good.size() - 1)), "m", 2); });
    expect_error(ErrorKind::input, {"trailing bytes: expected 72 bytes of data, got 73"},
                 [&] { read_tensor_file(put(good + "x"), "m", 2); });
}

TEST_F(TensorFileTest, OtherFilesAreNamedAsWhatTheyAre) {
    expect_rejected(put(""), {"expected a m file, got 0 bytes"});
    expect_rejected(put("hi"), {"got 2 bytes"});
    expect_rejected(put("\x93NUMPY\x01" + std::string(100, '\0')), {"it is a .npy file"});
    expect_rejected(put(std::string("\x93NUMPY", 6)), {"it is a .npy file"});
    expect_rejected(put("{\"a\": 1, \"b\": 2}"),
                    {"expected a m file with a header of at most 67108864 bytes", "it is text"});
    expect_rejected(put(little(1ull << 40)), {"at most 67108864 bytes, got 1099511627776"});
    expect_rejected(put(little(~0ull)), {"got 18446744073709551615"});
    expect_rejected(put(little(100) + "{}"), {"truncated: expected 100 bytes of header, got 2"});
    expect_rejected(put(container("{}", "")),
                    {"expected a m file, got one without 'format' in its metadata"});
    expect_rejected(put(container(R"({"__metadata__":{"a":"b"}})", "")), {"without 'format'"});
    expect_rejected(put(container(R"({"__metadata__":[]})", "")), {"without 'format'"});
    expect_rejected(put(container(R"({"__metadata__":{"format":1}})", "")),
                    {"metadata 'format': expected text"});
    expect_rejected(put(container(R"({"__metadata__":{"format":"dynkin-checkpoint"}})", "")),
                    {"expected a m file, got a 'dynkin-checkpoint' file"});
    for (const std::string version : {"", "0", "-1", "1x", "99999999999999999999", " 1"})
        expect_rejected(
            put(container(R"({"__metadata__":{"format":"m","format_version":")" + version + "\"}}", "")),
            {"format_version: expected a positive number, got '" + version + "'"});
    expect_rejected(put(container(R"({"__metadata__":{"format":"m","format_version":"2"}})", "")),
                    {"reads m up to version 1, got 2"});
    expect_rejected(put(container(header(""), "")), {"checksum", "the file says '0'"});
}

TEST_F(TensorFileTest, HostileHeaders) {
    expect_rejected(put(container("not json", "")), {"header: expected JSON, got something else at byte"});
    expect_rejected(put(container("[]", "")), {"expected a JSON object, got '[]'"});
    expect_rejected(put(container(header("") + "x", "")), {"expected JSON"});
    expect_rejected(put(container("{\"a\":1e999}", "")), {"numbers of at most 64 bits"});
    expect_rejected(put(container("{\"\xff\":1}", "")), {"expected JSON"});
    expect_rejected(put(container(std::string(1 << 20, '['), "")), {"nested at most 3 deep"});
    std::string nested;
    for (int k = 0; k < 100000; ++k) nested += "{\"a\":";
    expect_rejected(put(container(nested, "")), {"nested at most 3 deep"});
    expect_rejected(put(container("{" + about + "," + about + "}", "")), {"key '__metadata__' stands twice"});
    expect_rejected(put(container(header(R"("a":{"dtype":"F64","dtype":"F64"})"), "")),
                    {"key 'dtype' stands twice"});
    std::string ones = "[1";
    for (int k = 0; k < 40; ++k) ones += ",1";
    expect_rejected(put(container(header(entry("a", ones + "]", "[0,8]")), little(0))), {"at most 32 axes"});
    expect_rejected(put(container(header(entry("a", "[[1]]", "[0,8]")), little(0))),
                    {"nested at most 3 deep"});
}

TEST_F(TensorFileTest, HostileTensors) {
    const auto expect = [&](const std::string& entries, std::vector<std::string> parts,
                            std::size_t data_bytes = 8) {
        expect_rejected(put(container(header(entries), std::string(data_bytes, '\0'))), parts);
    };
    expect(entry("a", "[1]", "[0,8]", "F32"), {"tensor 'a': dtype: expected F64, U64 or I64, got '\"F32\"'"});
    expect(R"("a":{"dtype":7,"shape":[1],"data_offsets":[0,8]})", {"dtype", "got '7'"});
    expect(R"("a":{"shape":[1],"data_offsets":[0,8]})", {"expected dtype, shape and data_offsets"});
    expect(R"("a":{"dtype":"F64","shape":[1],"data_offsets":[0,8],"x":1})",
           {"expected dtype, shape and data_offsets"});
    expect(R"("a":5)", {"tensor 'a': expected dtype"});
    expect(entry("a", "[-1]", "[0,8]"), {"shape: expected lengths of 0 or more"});
    expect(entry("a", "[1.0]", "[0,8]"), {"shape: expected lengths"});
    expect(entry("a", "{}", "[0,8]"), {"shape: expected lengths"});
    expect(entry("a", "[1]", "[-8,0]"), {"data_offsets: expected two numbers"});
    expect(entry("a", "[1]", "[0,8,16]"), {"data_offsets: expected two numbers"});
    expect(entry("a", "[1]", "[0,99999999999999999999999]"), {"data_offsets: expected two numbers"});
    expect(entry("a", "[1]", "[8,0]"), {"expected 8 bytes for shape (1), got data_offsets 8 to 0"});
    expect(entry("a", "[2]", "[0,8]"), {"expected 16 bytes for shape (2)"});
    expect(entry("a", "[4294967296,4294967296]", "[0,0]"), {"shape: its size overflows"}, 0);
    expect(entry("a", "[2305843009213693952]", "[0,0]"), {"shape: its size overflows"}, 0);
    expect(entry("a", "[1]", "[18446744073709551608,18446744073709551615]"), {"expected 8 bytes"});
    expect(entry("a", "[1]", "[8,16]"), {"expected data_offsets from 0 (there is a gap before it), got 8"},
           16);
    expect(entry("a", "[1]", "[0,8]") + "," + entry("b", "[1]", "[0,8]"), {"overlaps"});
    expect(entry("a", "[2]", "[0,16]") + "," + entry("b", "[1]", "[8,16]"), {"tensor 'b'", "overlaps"}, 16);
    expect(entry("a", "[1000000000000]", "[0,8000000000000]"),
           {"truncated: expected 8000000000000 bytes of data, got 8"});
    expect(entry("a", "[1]", "[0,8]"), {"trailing bytes: expected 8"}, 9);
    expect(entry("a\\n\\u001b", "[2]", "[0,8]"), {"tensor 'a?"
                                                  "?'"});
}

TEST_F(TensorFileTest, FilesThatCannotBeRead) {
    expect_error(ErrorKind::io, {"absent", "No such file"},
                 [&] { read_tensor_file(folder / "absent", "m"); });
    expect_error(ErrorKind::io, {"directory"}, [&] { read_tensor_file(folder, "m"); });
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    expect_error(ErrorKind::io, {"pipe"}, [&] { read_tensor_file(folder / "pipe", "m"); });
    expect_error(ErrorKind::io, {"/dev/full", "No space left"},
                 [&] { write_tensor_file("/dev/full", example()); });
    expect_error(ErrorKind::io, {"does not exist"},
                 [&] { write_tensor_file(folder / "no" / "x", example()); });
}

} // namespace
} // namespace dynkin
