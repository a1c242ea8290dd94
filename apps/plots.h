// plots.h - the pictures of reports, as gnuplot scripts with their data inside.
#pragma once
#include "engine/array.h"
#include "engine/observables.h"
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dynkin::app {

/// A script of several pictures; each function adds one, PNG of the name given, in the working folder. Labels
/// are taken literally.
class Plots {
  public:
    /// Values with weights (empty: equal) under a name.
    struct Series {
        std::string name;
        std::vector<double> values, weight;
    };
    /// Densities over the reference's range, the first filled and the others as lines, the last on top;
    /// outliers of the others are left out.
    void histograms(const std::string& file, const std::string& label, const std::vector<Series>& series);
    /// The same for up to nine sites, evenly spread over those that are not constant.
    void marginals(const std::string& file, const Array<double>& reference, const Array<double>& samples,
                   std::span<const double> weight);
    void two_point(const std::string& file,
                   const std::vector<std::pair<std::string, std::vector<Estimate>>>& functions);
    /// log10 of weights over their mean.
    void weights(const std::string& file, std::span<const double> weight);

    /// Configurations side by side, as titled halves: rows of `shape` as lines over sites (one axis), as a
    /// sheet of images (two), or their middle slices (three).
    struct Half {
        std::string name;
        Array<double> rows;
    };
    /// How many configurations configurations() shows of each.
    static std::size_t shown(const std::vector<std::size_t>& shape);
    void configurations(const std::string& file, const std::vector<std::size_t>& shape, const Half& left,
                        const Half& right);
    /// Two-dimensional data: points when they are few, else densities.
    void plane(const std::string& file, const Half& left, std::span<const double> weight, const Half& right);

    /// Of chains: values[chain * length + k].
    struct Chains {
        std::string name;
        std::vector<double> values;
    };
    void traces(const std::string& file, const std::vector<Chains>& quantities, std::size_t chains,
                std::size_t length, std::size_t thinning);
    /// Histograms of each chain's ranks among all chains (Vehtari et al. 2021), up to four chains.
    void ranks(const std::string& file, const std::vector<Chains>& quantities, std::size_t chains,
               std::size_t length);

    const std::string& script() const { return script_; }

  private:
    void begin(const std::string& file, int width, int height, int font);
    std::string data(const std::vector<std::vector<double>>& columns); ///< the name of a data block
    std::string matrix(const Array<double>& values);
    void sheet(const std::string& file, const std::vector<std::size_t>& shape, const Half& left,
               const Half& right);
    void lines(const std::string& file, const Half& left, const Half& right);
    void line(const std::string& text) { script_ += text + "\n"; }

    std::string script_;
    int blocks_ = 0;
};

} // namespace dynkin::app
