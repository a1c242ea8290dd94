// process_files.h - the matrices of a process from files, and where a process is computed.
#pragma once
#include "command.h"
#include "engine/model.h"
#include <string>

namespace dynkin::app {

/// A matrix of numbers: an .npy of two axes, or the array of arrays `key` of the table [process] of a .toml.
/// Throws Error(input) or Error(io) naming the file.
Array<double> read_matrix(const std::string& path, const std::string& key);

/// Waves and linear processes are computed on the CPU whatever the device: says so, and in the result.
void note_device(const Common& common, const Context& context, const Model& model, Result& result);

} // namespace dynkin::app
