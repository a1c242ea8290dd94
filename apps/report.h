// report.h - a report: a folder with one HTML page that needs nothing else, its pictures, figures.csv and
// summary.json.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace dynkin::app {

/// A folder that is complete or absent: filled as `DIR.partial`, which is locked, and renamed by commit().
/// An earlier report is replaced in one step; any other folder that is not empty is refused.
class ReportFolder {
  public:
    /// Throws Error(io) when DIR could not be written later, at once.
    explicit ReportFolder(std::filesystem::path folder);
    ~ReportFolder(); ///< removes what was not committed
    ReportFolder(const ReportFolder&) = delete;
    ReportFolder& operator=(const ReportFolder&) = delete;

    const std::filesystem::path& work() const { return partial_; } ///< where its files are written
    void commit();

  private:
    std::filesystem::path folder_, partial_;
    int lock_ = -1;
};

/// For the option that names it: what is wrong with a name, or "".
std::string named(std::string& folder);

struct ReportTable {
    std::string title, note;
    std::vector<std::string> columns; ///< the first is text, the others are numbers
    std::vector<std::vector<std::string>> rows;
};
struct ReportPicture {
    std::string file, title, caption; ///< file: PNG in the folder
};
struct ReportPage {
    std::string title, summary;
    std::vector<std::pair<std::string, std::string>> facts; ///< name, value
    std::vector<ReportTable> tables;
    std::vector<ReportPicture> pictures;
};

/// Any text as HTML: special characters escaped, control bytes and broken UTF-8 replaced.
std::string html(const std::string& text);
/// A number as a reader wants it: four digits, "-" for NaN.
std::string shown(double value);

/// Writes report.html: readable on a phone and in print, with the pictures inside. Any text may stand in the
/// page; it is escaped.
void write_page(const ReportPage& page, const std::filesystem::path& folder);

} // namespace dynkin::app
