// autocovariance.h - autocovariances of centred chains at any lag (private: included by .cpp files only).
#pragma once
#include <algorithm>
#include <complex>
#include <cstddef>
#include <numbers>
#include <numeric>
#include <utility>
#include <vector>

namespace dynkin {

/// In-place transform of 2^k values: sum_n x_n exp(-2 pi i n m / size).
inline void fourier(std::vector<std::complex<double>>& x) {
    const std::size_t size = x.size();
    for (std::size_t i = 1, j = 0; i < size; ++i) {
        std::size_t bit = size >> 1;
        for (; j & bit; bit >>= 1) j ^= bit;
        j ^= bit;
        if (i < j) std::swap(x[i], x[j]);
    }
    for (std::size_t length = 2; length <= size; length *= 2) {
        std::vector<std::complex<double>> root(length / 2);
        for (std::size_t k = 0; k < length / 2; ++k)
            root[k] =
                std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(length));
        for (std::size_t start = 0; start < size; start += length)
            for (std::size_t k = 0; k < length / 2; ++k) {
                const auto a = x[start + k], b = x[start + k + length / 2] * root[k];
                x[start + k] = a + b;
                x[start + k + length / 2] = a - b;
            }
    }
}

/// sum_c sum_n v_c,n v_c,n+lag over all chains, divided by their number of values, for values[chain * length
/// + n] that are centred already: by direct sums for the first lags, which is all that nearly independent
/// chains need, and by Fourier transform from there.
class Autocovariance {
  public:
    Autocovariance(std::vector<double> values, std::size_t chains, std::size_t length)
        : values_(std::move(values)), chains_(chains), length_(length) {}

    double operator()(std::size_t lag) {
        if (lag >= direct_lags && all_.empty()) transform();
        if (!all_.empty()) return all_[lag];
        double sum = 0;
        for (std::size_t c = 0; c < chains_; ++c) {
            const double* chain = values_.data() + c * length_;
            sum += std::inner_product(chain, chain + (length_ - lag), chain + lag, 0.0);
        }
        return sum / static_cast<double>(values_.size());
    }

  private:
    static constexpr std::size_t direct_lags = 32;

    void transform() {
        std::size_t size = 1;
        while (size < 2 * length_) size *= 2;
        std::vector<std::complex<double>> power(size), one(size);
        for (std::size_t c = 0; c < chains_; ++c) {
            std::fill(one.begin(), one.end(), 0.0);
            std::copy_n(values_.data() + c * length_, length_, one.begin());
            fourier(one);
            for (std::size_t k = 0; k < size; ++k) power[k] += std::norm(one[k]);
        }
        fourier(power);
        all_.resize(length_);
        const double scale = static_cast<double>(size) * static_cast<double>(values_.size());
        for (std::size_t n = 0; n < length_; ++n) all_[n] = power[n].real() / scale;
    }

    std::vector<double> values_;
    std::size_t chains_, length_;
    std::vector<double> all_;
};

} // namespace dynkin
