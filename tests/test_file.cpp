// test_file.cpp - files that are complete or absent, whatever goes wrong.
#include "engine/file.h"
#include "expect_error.h"
#include <cmath>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace dynkin {
namespace {

using cases::expect_error;

namespace fs = std::filesystem;

class FileTest : public testing::Test {
  protected:
    void SetUp() override {
        folder = fs::temp_directory_path() /
                 fmt::format("dynkin-{}-file-{}", ::getpid(),
                             testing::UnitTest::GetInstance()->current_test_info()->name());
        fs::create_directories(folder);
    }
    void TearDown() override { fs::remove_all(folder); }
    fs::path put(const std::string& name, const std::string& text) const {
        std::ofstream(folder / name, std::ios::binary) << text;
        return folder / name;
    }
    std::size_t entries() const {
        return static_cast<std::size_t>(
            std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
    }
    fs::path folder;
};

TEST_F(FileTest, NameAppearsOnCommitOnly) {
    put("x", "old");
    OutputFile file(folder / "x");
    file.append("new");
    EXPECT_EQ(read_file(folder / "x"), "old");
    EXPECT_EQ(read_file(folder / "x.partial"), "new");
    file.commit();
    EXPECT_EQ(read_file(folder / "x"), "new");
    EXPECT_EQ(entries(), 1u);
    expect_error(ErrorKind::io, {"cannot write", "/x", "fsync"}, [&] { file.commit(); });
    expect_error(ErrorKind::io, {"cannot write", "/x", "write"}, [&] { file.append("late"); });
}

TEST_F(FileTest, WithoutCommitNothingIsLeft) {
    { OutputFile(folder / "x").append("abc"); }
    EXPECT_EQ(entries(), 0u);
}

TEST_F(FileTest, KeepAndResume) {
    {
        OutputFile file(folder / "x");
        file.append("0123456789");
        file.keep();
    }
    EXPECT_FALSE(fs::exists(folder / "x"));
    OutputFile file(folder / "x", OutputFile::Mode::resume);
    EXPECT_EQ(file.size(), 10u);
    std::vector<std::byte> bytes(3);
    file.read_at(4, bytes);
    EXPECT_EQ(static_cast<char>(bytes[0]), '4');
    expect_error(ErrorKind::io, {"x.partial", "end of the file"}, [&] { file.read_at(9, bytes); });
    file.truncate(5);
    file.append("ab");
    file.write_at(1, std::as_bytes(std::span("Z", 1)));
    file.sync();
    EXPECT_EQ(file.size(), 7u);
    file.commit();
    EXPECT_EQ(read_file(folder / "x"), "0Z234ab");
    expect_error(ErrorKind::io, {"cannot resume", "x.partial", "No such file"},
                 [&] { OutputFile f(folder / "x", OutputFile::Mode::resume); });
}

TEST_F(FileTest, CreateDropsAStalePartialFile) {
    put("x.partial", "stale and long");
    OutputFile file(folder / "x");
    EXPECT_EQ(file.size(), 0u);
    file.append("ok");
    file.commit();
    EXPECT_EQ(read_file(folder / "x"), "ok");
}

TEST_F(FileTest, MovedFromOwnsNothing) {
    OutputFile first(folder / "x");
    {
        OutputFile second(std::move(first));
        second.append("abc");
        second.commit();
    }
    EXPECT_EQ(read_file(folder / "x"), "abc");
}

TEST_F(FileTest, SecondWriterIsRefused) {
    OutputFile first(folder / "x");
    first.append("mine");
    expect_error(ErrorKind::io, {"x.partial is being written by another process"},
                 [&] { OutputFile f(folder / "x"); });
    first.commit();
    EXPECT_EQ(read_file(folder / "x"), "mine");
}

TEST_F(FileTest, PlacesThatCannotBeWritten) {
    fs::create_directory(folder / "taken");
    fs::create_directory(folder / "y.partial");
    put("plain", "");
    const auto check = [](const fs::path& path, std::vector<std::string> parts) {
        parts.push_back("cannot write");
        expect_error(ErrorKind::io, parts, [&] { OutputFile file(path); });
        expect_error(ErrorKind::io, parts, [&] { require_writable(path); });
        expect_error(ErrorKind::io, parts, [&] { write_file(path, "text"); });
    };
    check("", {"the path is empty"});
    check(folder / "taken", {"taken: it is a directory"});
    check(folder / "y", {"y.partial is in the way"});
    check(folder / "no" / "x", {"the folder " + (folder / "no").string() + " does not exist"});
    check(folder / "plain" / "x", {"Not a directory"});
    check(folder / std::string(250, 'n'), {"File name too long"}); // with ".partial"
    fs::create_symlink("loop", folder / "loop");
    check(folder / "loop", {"symbolic links"});
    if (::geteuid() != 0) {
        fs::permissions(folder / "plain", fs::perms::owner_read);
        check(folder / "plain", {"Permission denied"});
        fs::permissions(folder / "taken", fs::perms::owner_read);
        check(folder / "taken" / "x", {"Permission denied"});
        fs::permissions(folder / "taken", fs::perms::owner_all);
    }
    require_writable(folder / "fine");
    require_writable("/dev/null");
    EXPECT_FALSE(fs::exists(folder / "fine"));
}

TEST_F(FileTest, SocketIsRefused) {
    const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = (folder / "s").string();
    ASSERT_LT(path.size(), sizeof address.sun_path);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    expect_error(ErrorKind::io, {"socket"}, [&] { OutputFile file(path); });
    ::close(socket);
}

TEST_F(FileTest, RenameFailureKeepsTheData) {
    OutputFile file(folder / "x");
    file.append("data");
    fs::create_directory(folder / "x"); // came while we wrote
    expect_error(ErrorKind::io, {"rename: Is a directory", "complete data stay in", "x.partial"},
                 [&] { file.commit(); });
    { OutputFile moved(std::move(file)); }
    EXPECT_EQ(read_file(folder / "x.partial"), "data");
}

TEST_F(FileTest, LinksStayAndTheirTargetIsReplaced) {
    put("target", "old");
    fs::create_symlink("target", folder / "link");
    write_file(folder / "link", "new");
    EXPECT_TRUE(fs::is_symlink(folder / "link"));
    EXPECT_FALSE(fs::is_symlink(folder / "target"));
    EXPECT_EQ(read_file(folder / "target"), "new");
    fs::create_symlink(folder / "fresh", folder / "dangling");
    write_file(folder / "dangling", "made");
    EXPECT_EQ(read_file(folder / "fresh"), "made");
    put("aim", "untouched"); // a partial name that is a link is not followed
    fs::create_symlink("aim", folder / "z.partial");
    expect_error(ErrorKind::io, {"z.partial is in the way"}, [&] { write_file(folder / "z", "text"); });
    EXPECT_EQ(read_file(folder / "aim"), "untouched");
}

TEST_F(FileTest, DevicesAreWrittenDirectly) {
    write_file("/dev/null", "gone");
    EXPECT_TRUE(fs::is_character_file("/dev/null"));
    OutputFile file("/dev/null");
    file.write_at(1000, std::as_bytes(std::span("x", 1)));
    EXPECT_EQ(file.size(), 1001u);
    expect_error(ErrorKind::io, {"/dev/full", "write: No space left on device"},
                 [&] { write_file("/dev/full", "x"); });
    expect_error(ErrorKind::io, {"cannot resume /dev/null"},
                 [&] { OutputFile f("/dev/null", OutputFile::Mode::resume); });
}

TEST_F(FileTest, PipesAreWrittenInOrder) {
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    const std::string big(1 << 20, 'a'); // many times the pipe's buffer: short writes
    std::string got;
    std::thread reader([&] { got = read_file(folder / "pipe"); });
    {
        OutputFile file(folder / "pipe");
        file.append(big);
        file.write_at(big.size(), std::as_bytes(std::span("b", 1)));
        expect_error(ErrorKind::io, {"pipe", "in order"},
                     [&] { file.write_at(0, std::as_bytes(std::span("c", 1))); });
        file.commit();
    }
    reader.join();
    EXPECT_EQ(got, big + "b");
    EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, DescriptorsInProcAreWrittenDirectly) { // what /dev/stdout leads to
    const int descriptor = ::open((folder / "out").c_str(), O_RDWR | O_CREAT, 0600);
    ASSERT_GE(descriptor, 0);
    fs::create_symlink(fmt::format("/proc/self/fd/{}", descriptor), folder / "stdout");
    write_file(folder / "stdout", "text");
    ::close(descriptor);
    EXPECT_EQ(read_file(folder / "out"), "text");
    EXPECT_TRUE(fs::is_symlink(folder / "stdout"));
    EXPECT_EQ(entries(), 2u);
}

TEST_F(FileTest, BrokenPipeIsAnError) {
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    const auto before = std::signal(SIGPIPE, SIG_IGN);
    const int reader = ::open((folder / "pipe").c_str(), O_RDONLY | O_NONBLOCK);
    OutputFile file(folder / "pipe");
    ::close(reader);
    expect_error(ErrorKind::io, {"pipe", "Broken pipe"}, [&] { file.append("x"); });
    std::signal(SIGPIPE, before);
}

TEST_F(FileTest, ReadFile) {
    put("x", std::string("a\0b", 3));
    EXPECT_EQ(read_file(folder / "x"), std::string("a\0b", 3));
    EXPECT_EQ(read_file(folder / "x", 3).size(), 3u);
    expect_error(ErrorKind::input, {"/x: expected at most 2 bytes, got 3"},
                 [&] { read_file(folder / "x", 2); });
    expect_error(ErrorKind::input, {"/dev/zero: expected at most 100000 bytes, got more"},
                 [&] { read_file("/dev/zero", 100000); });
    expect_error(ErrorKind::io, {"cannot open", "absent", "No such file"},
                 [&] { read_file(folder / "absent"); });
    expect_error(ErrorKind::io, {"cannot read", "directory"}, [&] { read_file(folder); });
    EXPECT_FALSE(read_file("/proc/self/stat").empty()); // a file without a size
}

TEST_F(FileTest, InputFile) {
    InputFile file(put("x", "0123"));
    std::vector<std::byte> bytes(2);
    file.read_at(2, bytes);
    EXPECT_EQ(static_cast<char>(bytes[1]), '3');
    EXPECT_EQ(file.size(), 4u);
    expect_error(ErrorKind::io, {"/x", "expected 1 more bytes at byte 4"}, [&] { file.read_at(3, bytes); });
    expect_error(ErrorKind::io, {"/dev/null", "device"}, [&] { InputFile f("/dev/null"); });
}

/// Published vectors of XXH64; the long one crosses every branch (blocks of 32, 8, 4 and 1 bytes).
TEST(ChecksumTest, PublishedVectors) {
    EXPECT_EQ(checksum(std::string_view("")), 0xef46db3751d8e999u);
    EXPECT_EQ(checksum(std::string_view("a")), 0xd24ec4f1a98c6e5bu);
    EXPECT_EQ(checksum(std::string_view("abc")), 0x44bc2cf5ad770999u);
    EXPECT_EQ(checksum(std::string_view("xxhash")), 0x32dd38952c4bc720u);
    EXPECT_EQ(checksum(std::string_view("xxhash"), 20141025), 0xb559b98d844e0635u);
    EXPECT_EQ(checksum(std::string_view("Nobody inspects the spammish repetition")), 0xfbcea83c8a378bf1u);
}

TEST(ChecksumTest, EveryBitCounts) {
    std::string text(77, 'x');
    const std::uint64_t before = checksum(std::string_view(text));
    int flipped = 0;
    for (std::size_t k = 0; k < text.size() * 8; ++k) {
        text[k / 8] = static_cast<char>(text[k / 8] ^ (1 << k % 8));
        const std::uint64_t after = checksum(std::string_view(text));
        ASSERT_NE(after, before) << k;
        flipped += __builtin_popcountll(after ^ before);
        text[k / 8] = static_cast<char>(text[k / 8] ^ (1 << k % 8));
    }
    EXPECT_NEAR(flipped / 616.0, 32.0,
                4 / std::sqrt(616.0) * 4); // binomial(64, 1/2) each: mean of 616, 4 sigma
    EXPECT_NE(checksum(std::string_view(text), 1), before);
    EXPECT_NE(checksum(std::string_view(text).substr(1)), before);
}

TEST(ExcerptTest, OneLine) {
    EXPECT_EQ(excerpt("a\nb\x1b\xff"), "'a?b?"
                                       "?'");
    EXPECT_EQ(excerpt(std::string(61, 'x')), "'" + std::string(60, 'x') + "...'");
    EXPECT_EQ(excerpt("abc", 2), "'ab...'");
}

} // namespace
} // namespace dynkin
