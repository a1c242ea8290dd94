// mcmc_record.h - the kept values that R-hat, the effective sample size and mean values are taken from;
// private to mcmc.cpp and local_metropolis.cpp.
#pragma once
#include "mcmc.h"
#include "mcmc_quantities.h"
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace dynkin {

inline constexpr std::size_t record_capacity = std::size_t{1} << 16; // values of one quantity

struct Record {
    std::size_t chains = 0, length = 0, batch = 1; ///< length entries a chain, each of `batch` kept states
    std::size_t rows = 0, kept = 0;                ///< states written, and all of them, chains * rounds
    std::vector<double> first, sum; ///< (quantity, chain, entry): first state; sum of states if batch > 1
    std::vector<double> total;      ///< (quantity, chain): sum over the states written

    Record(std::size_t quantities, std::size_t chains_, std::size_t rounds, std::size_t rows_)
        : chains(chains_), rows(rows_), kept(chains_ * rounds), total(quantities * chains_, 0.0) {
        batch = std::max<std::size_t>(1, (rounds * chains + record_capacity - 1) / record_capacity);
        batch = std::min(batch, std::max<std::size_t>(rounds / 8, 1));
        length = rounds / batch;
        first.assign(quantities * chains * length, 0.0);
        if (batch > 1) sum.assign(first.size(), 0.0);
    }
    void put(std::size_t chain, std::size_t round, std::span<const double> values) {
        const std::size_t entry = round / batch;
        if (round * chains + chain < rows)
            for (std::size_t q = 0; q < values.size(); ++q) total[q * chains + chain] += values[q];
        if (entry >= length) return;
        for (std::size_t q = 0; q < values.size(); ++q) {
            const std::size_t n = (q * chains + chain) * length + entry;
            if (round % batch == 0) first[n] = values[q];
            if (batch > 1) sum[n] += values[q];
        }
    }
    /// To or from a checkpoint.
    template <class Archive> void transfer(Archive& archive) {
        archive("record.first", first, first.size());
        archive("record.sum", sum, sum.size());
        archive("record.total", total, total.size());
    }
    std::span<const double> of(const std::vector<double>& values, std::size_t q) const {
        return std::span(values).subspan(q * chains * length, chains * length);
    }
    /// Effective size of all kept states. The long-run variance of means of b states is 1/b of that of the
    /// states, so ESS = ESS(means) var(states) / var(means).
    double effective_size(std::size_t q) const {
        if (batch == 1) return effective_sample_size(of(first, q), chains, length);
        const double shrunk = variance(of(sum, q)) / static_cast<double>(batch * batch);
        return shrunk > 0
                   ? effective_sample_size(of(sum, q), chains, length) * variance(of(first, q)) / shrunk
                   : 0;
    }
    /// Effective size of the rows written.
    double effective_rows(std::size_t q) const {
        return effective_size(q) * static_cast<double>(rows) / static_cast<double>(kept);
    }
    /// Mean over the rows written, and its standard error.
    double mean(std::size_t q) const {
        double all = 0;
        for (const double of_chain : std::span(total).subspan(q * chains, chains)) all += of_chain;
        return all / static_cast<double>(rows);
    }
    double error(std::size_t q) const { return std::sqrt(variance(of(first, q)) / effective_rows(q)); }

  private:
    static double variance(std::span<const double> values) {
        double mean = 0, square = 0;
        for (const double v : values) mean += v;
        mean /= static_cast<double>(values.size());
        for (const double v : values) square += (v - mean) * (v - mean);
        return square / static_cast<double>(values.size() - 1);
    }
};

} // namespace dynkin
