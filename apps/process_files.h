// process_files.h - the matrices of a process from files.
#pragma once
#include "engine/process.h"
#include <string>

namespace dynkin::app {

/// A matrix of numbers: an .npy of two axes, or the array of arrays `key` of the table [process] of a .toml.
/// Throws Error(input) or Error(io) naming the file.
Array<double> read_matrix(const std::string& path, const std::string& key);

} // namespace dynkin::app
