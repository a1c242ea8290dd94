// gnuplot.h - pictures by gnuplot, called as a process.
#pragma once
#include <filesystem>
#include <string>

namespace dynkin::app {

/// Throws Error(io), naming the Debian package, when no gnuplot is in PATH: before long
/// work.
void require_gnuplot();

/// Runs `script` with `folder` as working folder; the user's settings of gnuplot are not read. Throws
/// Error(io) with gnuplot's first message when it fails.
void run_gnuplot(const std::string& script, const std::filesystem::path& folder);

} // namespace dynkin::app
