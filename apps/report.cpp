#include "report.h"
#include "engine/error.h"
#include "engine/file.h"
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace dynkin::app {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const char* what) {
    throw Error(ErrorKind::io, fmt::format("{}: {}: {}", path.string(), what, std::strerror(errno)));
}

bool of_a_report(const fs::directory_entry& entry) {
    const fs::path name = entry.path().filename();
    return entry.is_regular_file() && (name == "report.html" || name == "summary.json" ||
                                       name == "figures.csv" || name.extension() == ".png");
}

void check_replaceable(const fs::path& folder) {
    if (!fs::exists(folder)) return;
    if (!fs::is_directory(folder))
        throw Error(ErrorKind::io, folder.string() + ": expected a folder for the report, found a file");
    for (const auto& entry : fs::directory_iterator(folder))
        if (!of_a_report(entry) || !fs::exists(folder / "report.html"))
            throw Error(ErrorKind::io,
                        fmt::format("{}: expected a new or empty folder or an earlier report, found {} in it",
                                    folder.string(), excerpt(entry.path().filename().string())));
    if (access(folder.c_str(), W_OK) != 0) fail(folder, "cannot be written");
}

void sync(const fs::path& path) {
    const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fsync(descriptor) != 0) fail(path, "fsync");
    close(descriptor);
}

/// Length of the UTF-8 sequence of a character at the start of `rest`; 0: none is.
std::size_t utf8_length(const std::string& text, std::size_t at) {
    const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
    const unsigned char lead = byte(at);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xC2 && lead < 0xE0 ? 2
                               : (lead & 0xF0) == 0xE0       ? 3
                               : lead >= 0xF0 && lead < 0xF5 ? 4
                                                             : 0;
    if (length == 0 || at + length > text.size()) return 0;
    for (std::size_t k = 1; k < length; ++k)
        if ((byte(at + k) & 0xC0) != 0x80) return 0;
    return length;
}

std::string base64(const std::string& bytes) {
    const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        unsigned three = 0;
        for (std::size_t k = 0; k < 3; ++k)
            three = three << 8 | (at + k < bytes.size() ? static_cast<unsigned char>(bytes[at + k]) : 0u);
        for (std::size_t k = 0; k < 4; ++k)
            text += at + k > bytes.size() ? '=' : digits[three >> (18 - 6 * k) & 63];
    }
    return text;
}

const char* const style = R"(
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1rem; max-width: 46rem; font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; }
.note, figcaption { color: #555; font-size: .9rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 1rem 0; font-size: .95rem; }
dt { color: #555; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th { font-weight: 600; border-bottom: 2px solid #888; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
@media (max-width: 34rem) { table { font-size: .78rem; } th, td { padding: .25rem .3rem; } }
figure { margin: 0; }
img { width: 100%; height: auto; display: block; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  section, figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  img { max-height: 9cm; width: auto; max-width: 100%; }
  .wide { overflow: visible; }
}
@page { size: A4; margin: 15mm; }
)";

std::string table_html(const ReportTable& table) {
    std::string text = "<section>\n<h2>" + html(table.title) + "</h2>\n";
    if (!table.note.empty()) text += "<p class=\"note\">" + html(table.note) + "</p>\n";
    text += "<div class=\"wide\"><table>\n<thead><tr>";
    for (const std::string& column : table.columns) text += "<th scope=\"col\">" + html(column) + "</th>";
    text += "</tr></thead>\n<tbody>\n";
    for (const auto& row : table.rows) {
        text += "<tr>";
        for (const std::string& cell : row) text += "<td>" + html(cell) + "</td>";
        text += "</tr>\n";
    }
    return text + "</tbody></table></div>\n</section>\n";
}

/// Width and height of a PNG, from its first chunk.
std::pair<unsigned, unsigned> png_size(const std::string& png, const fs::path& file) {
    if (png.size() < 24 || png.compare(1, 3, "PNG") != 0 || png.compare(png.size() - 8, 4, "IEND") != 0)
        throw Error(ErrorKind::io, file.string() + ": gnuplot wrote no complete picture");
    const auto number = [&](std::size_t at) {
        unsigned value = 0;
        for (std::size_t k = at; k < at + 4; ++k) value = value << 8 | static_cast<unsigned char>(png[k]);
        return value;
    };
    return {number(16), number(20)};
}

std::string picture_html(const ReportPicture& picture, const fs::path& folder) {
    const std::string png = read_file(folder / picture.file);
    const auto [width, height] = png_size(png, folder / picture.file);
    return fmt::format("<section>\n<h2>{}</h2>\n<figure><img src=\"data:image/png;base64,{}\" width=\"{}\" "
                       "height=\"{}\" alt=\"{}\">\n<figcaption>{}</figcaption></figure>\n</section>\n",
                       html(picture.title), base64(png), width, height, html(picture.title),
                       html(picture.caption));
}

} // namespace

ReportFolder::ReportFolder(fs::path folder) : folder_(std::move(folder)) {
    if (!folder_.has_filename()) folder_ = folder_.parent_path();
    std::error_code ignored;
    if (fs::is_symlink(folder_, ignored)) folder_ = fs::weakly_canonical(folder_);
    check_replaceable(folder_);
    partial_ = folder_;
    partial_ += ".partial";
    if (mkdir(partial_.c_str(), 0777) != 0 && errno != EEXIST) fail(partial_, "cannot make the folder");
    lock_ = open(partial_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock_ < 0) fail(partial_, "cannot be opened");
    if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
        close(lock_);
        throw Error(ErrorKind::io, partial_.string() + ": another process is writing this report");
    }
    for (const auto& entry : fs::directory_iterator(partial_))
        fs::remove_all(entry); // of a run that was killed
}

ReportFolder::~ReportFolder() {
    std::error_code ignored;
    if (!partial_.empty()) fs::remove_all(partial_, ignored);
    close(lock_);
}

void ReportFolder::commit() {
    for (const auto& entry : fs::directory_iterator(partial_)) sync(entry.path());
    sync(partial_);
    if (fs::exists(folder_)) {
        check_replaceable(folder_);
        if (renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, folder_.c_str(), RENAME_EXCHANGE) != 0)
            fail(folder_, "cannot be replaced");
        fs::remove_all(partial_); // the earlier report
    } else if (rename(partial_.c_str(), folder_.c_str()) != 0) {
        fail(folder_, "cannot rename");
    }
    partial_.clear();
    sync(folder_.has_parent_path() ? folder_.parent_path() : fs::path("."));
}

std::string named(std::string& folder) {
    return folder.empty() ? "expected a folder, got an empty name" : "";
}

std::string html(const std::string& text) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        const char c = text[at];
        const std::size_t length = utf8_length(text, at);
        if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'')
            out += fmt::format("&#{};", static_cast<int>(c));
        else if (length == 0 || (c >= 0 && c < 32) || c == 127)
            out += '?';
        else
            out += text.substr(at, length);
        at += std::max<std::size_t>(length, 1);
    }
    return out;
}

std::string shown(double value) { return std::isnan(value) ? "-" : fmt::format("{:.4g}", value); }

void write_page(const ReportPage& page, const fs::path& folder) {
    std::string text =
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
        "style-src 'unsafe-inline'\">\n<title>" +
        html(page.title) + "</title>\n<style>" + style + "</style>\n</head>\n<body>\n<h1>" +
        html(page.title) + "</h1>\n<p>" + html(page.summary) + "</p>\n<dl>\n";
    for (const auto& [name, value] : page.facts)
        text += "<dt>" + html(name) + "</dt><dd>" + html(value) + "</dd>\n";
    text += "</dl>\n";
    for (std::size_t k = 0; k < page.tables.size() && k < 1; ++k) text += table_html(page.tables[k]);
    for (const ReportPicture& picture : page.pictures) text += picture_html(picture, folder);
    for (std::size_t k = 1; k < page.tables.size(); ++k) text += table_html(page.tables[k]);
    write_file(folder / "report.html", text + "</body>\n</html>\n");
}

} // namespace dynkin::app
