// data.h - the rows that networks are trained on, the rows that were held out, and noise for these.
#pragma once
#include <cstdint>
#include <dynkin/dynkin.h>
#include <filesystem>
#include <string>
#include <vector>

namespace neural_prior {

/// A temporary folder: priors are fitted to files.
class Folder {
  public:
    Folder(); ///< throws Error(io)
    ~Folder();
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  private:
    std::filesystem::path path_;
};

struct DataOptions {
    std::filesystem::path source; ///< .npy of samples, or .toml of a law that can be drawn directly
    std::size_t rows = 24'000;    ///< to draw of a law
    std::size_t held_out = 0;     ///< 0: a fifth, at most 4000
    bool columns = false; ///< each column to mean 0, deviation 1; else all numbers to [-1, 1], by one map
};

/// Scaled rows, N x d. Which rows are held out depends on the seed, the scale on the training rows alone.
struct Data {
    dynkin::Array<float> train, held_out;
};

/// Throws Error(input) for data that are not numbers, fewer than 20 rows, or constant.
Data load(const dynkin::Context& context, const DataOptions& options, std::uint64_t seed);

/// The same noisy rows judge every method: levels x rows x d, x = x_0 + sigma eps.
struct HeldOut {
    std::vector<double> sigma;
    std::size_t rows = 0; ///< a level
    dynkin::Array<float> x, noise;
};
/// `levels` noise levels, uniform in log sigma from low to high; rows are repeated until there are 1500.
HeldOut noisy(const dynkin::Array<float>& rows, std::size_t levels, double low, double high,
              std::uint64_t seed);

} // namespace neural_prior
