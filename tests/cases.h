// cases.h - what several tests start from: contexts, data, references, bases, a model that is exact, files.
#pragma once
#include "backend.h"
#include "engine/gram.h"
#include "engine/model.h"
#include "engine/npy.h"
#include "engine/target.h"
#include "expect_error.h"
#include "oracles.h"
#include <cstring>
#include <filesystem>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

namespace dynkin::cases {

using std::size_t;

inline std::vector<Isa> isas() {
    std::vector<Isa> all;
    for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512})
        if (isa <= best_isa()) all.push_back(isa);
    return all;
}

template <class A, class B> bool same_bytes(const A& a, const B& b) {
    return a.size() == b.size() &&
           (a.size() == 0 || std::memcmp(a.data(), b.data(), a.size() * sizeof a.data()[0]) == 0);
}

inline Array<double> matrix(size_t rows, const std::vector<double>& values) {
    Array<double> a(rows, values.size() / rows);
    std::copy(values.begin(), values.end(), a.begin());
    return a;
}

/// Correlated, skewed, bimodal rows: neighbours share a sign and a noise; inside the boxes below.
inline Array<double> rows(size_t count, size_t sites, unsigned seed, double spread = 0.45) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Array<double> x(count, sites);
    for (size_t n = 0; n < count; ++n) {
        const double sign = engine() % 5 < 3 ? 0.8 : -0.9;
        double shared = normal(engine);
        for (size_t j = 0; j < sites; ++j) {
            shared = 0.6 * shared + 0.8 * normal(engine);
            x(n, j) = std::clamp((j % 3 == 2 ? 1 : sign) + spread * shared, -2.2, 2.2);
        }
    }
    return x;
}

inline Reference hermite_reference(int sites, int top) {
    return {{hermite_family(top)}, std::vector<int>(static_cast<size_t>(sites), 0)};
}

/// v = 1.5 (z^2 - 1)^2, and a skewed potential unless `even`; sites in turn.
inline Reference fitted_reference(int sites, bool even = false) {
    static const Family well = fitted_family({1.5, 0, -3, 0, 1.5}, -2.6, 2.6);
    static const Family skewed = fitted_family({0, 0.3, -0.4, 0, 0.3}, -3, 3.1);
    static const Family single = fitted_family({0, 0, 0.4, 0, 0.1}, -3, 3);
    Reference reference{{well, even ? single : skewed}, {}};
    for (int i = 0; i < sites; ++i) reference.family_of.push_back(i % 2);
    return reference;
}

/// A reference, a basis and everything that follows from the two.
struct Basis {
    Reference reference;
    IndexSet set;
    std::vector<ProductTables> tables;
    MomentPlan plan;
    ScoreSystem system;

    Basis(Reference r, IndexSet s)
        : reference(std::move(r)), set(std::move(s)), tables(all_tables(reference, set.max_degree())),
          plan(set, reference, tables), system(set, reference, tables, plan) {}
    Basis(const Basis&) = delete;

    static std::vector<ProductTables> all_tables(const Reference& reference, int degree) {
        std::vector<ProductTables> tables;
        for (const Family& family : reference.families) tables.push_back(product_tables(family, degree));
        return tables;
    }
    std::vector<double> averages(const Context& where, const Array<double>& z, Subset subset = Subset::all,
                                 bool single_precision = false) const {
        MomentSums sums;
        MomentOptions options;
        options.single_precision = single_precision;
        accumulate_moments(where, plan, reference, source(z), options, sums);
        return moment_averages(sums, subset);
    }
    static SampleSource source(const Array<double>& z) {
        return {z.rows(), [&z](size_t first, size_t count, double* out) {
                    std::copy_n(z.row(first), count * z.cols(), out);
                }};
    }
};

/// Neighbours of a chain with all products to `near`, every other pair at (1, 1).
inline std::vector<Pair> chain_pairs(int sites, int near, bool all = true) {
    std::vector<Pair> pairs;
    for (int i = 0; i < sites; ++i)
        for (int j = i + 1; j < sites; ++j)
            if (all || j == i + 1) pairs.push_back({i, j, j == i + 1 ? near : 1});
    return pairs;
}

/// Covariance with both signs of correlation. A row of the others sums to 0.4 / 0.75 + 0.25 / 1.5 = 0.7 at
/// most, so eigenvalues are between 0.3 and 1.7 in any dimension.
inline oracle::Gaussian gaussian(size_t d) {
    oracle::Gaussian g{std::vector<double>(d), Array<double>(d, d)};
    for (size_t i = 0; i < d; ++i) {
        g.mean[i] = 0.4 - 0.3 * static_cast<double>(i % 3);
        for (size_t j = 0; j < d; ++j)
            g.covariance(i, j) = (i == j        ? 1
                                  : (i + j) % 2 ? 0.4
                                                : -0.25) *
                                 std::pow(0.5, i > j ? i - j : j - i);
    }
    return g;
}

inline Array<double> draw(const oracle::Gaussian& g, size_t count, unsigned seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    const size_t d = g.size();
    Array<double> l(d, d), x(count, d);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j <= i; ++j) {
            double sum = g.covariance(i, j);
            for (size_t k = 0; k < j; ++k) sum -= l(i, k) * l(j, k);
            EXPECT_TRUE(i != j || sum > 0) << "not positive definite";
            l(i, j) = i == j ? std::sqrt(sum) : sum / l(j, j);
        }
    for (size_t n = 0; n < count; ++n) {
        std::vector<double> e(d);
        for (double& value : e) value = normal(engine);
        for (size_t i = 0; i < d; ++i) {
            x(n, i) = g.mean[i];
            for (size_t k = 0; k <= i; ++k) x(n, i) += l(i, k) * e[k];
        }
    }
    return x;
}

/// A model with one block on all d coordinates, all coefficients 0; standardisation as given.
inline Model empty_model(Reference reference, IndexSet basis, int intervals, double t_end = 5) {
    Model model;
    const size_t d = reference.family_of.size();
    model.view.columns = d;
    model.view.kept.resize(d);
    std::iota(model.view.kept.begin(), model.view.kept.end(), 0);
    model.view.constant.assign(d, 0);
    model.standardization = {std::vector<double>(d, 0), std::vector<double>(d, 1)};
    model.sample_shape = {d};
    model.training_rows = 1000;
    model.configuration = "{}";
    Block block;
    block.t_end = t_end;
    block.coordinates = model.view.kept;
    block.reference = std::move(reference);
    block.basis = std::move(basis);
    block.node_time = block.step_times(intervals);
    block.coefficients = Array<double>(block.node_time.size(), block.basis.terms.size());
    block.lower.assign(d, -6), block.upper.assign(d, 6);
    model.blocks.push_back(std::move(block));
    return model;
}

/// The exact model of a Gaussian law of z: grad h = z - S_t^-1 (z - m_t) is linear, so degree 2 and all (1,1)
/// hold it. The fitted reference is v = z^2/2 on a box of 18, whose eigenfunctions are those of Hermite.
inline Model gaussian_model(const oracle::Gaussian& g, ReferenceKind kind, int intervals) {
    const int d = static_cast<int>(g.size());
    std::vector<Pair> pairs;
    for (int i = 0; i < d; ++i)
        for (int j = i + 1; j < d; ++j) pairs.push_back({i, j, 1});
    Reference reference = hermite_reference(d, 4);
    if (kind == ReferenceKind::fitted) reference.families = {fitted_family({0, 0, 0.5}, -9, 9, 4, 32)};
    Model model = empty_model(reference, make_index_set(d, 2, pairs, 0, false), intervals, 12);
    Block& block = model.blocks.front();
    for (size_t n = 0; n < block.node_time.size(); ++n) {
        const oracle::Gaussian at = g.noised(block.node_time[n]);
        const Array<double> p = oracle::inverse(at.covariance);
        for (size_t k = 0; k < block.basis.terms.size(); ++k) {
            const Term& term = block.basis.terms[k];
            const auto i = static_cast<size_t>(term.i);
            double& c = block.coefficients(n, k);
            if (term.j >= 0)
                c = -p(i, static_cast<size_t>(term.j));
            else if (term.a == 2)
                c = (1 - p(i, i)) / std::sqrt(2.0);
            else
                for (size_t j = 0; j < at.size(); ++j) c += p(i, j) * at.mean[j];
        }
    }
    return model;
}

/// A folder of one test, removed with all that is in it.
class Folder : public testing::Test {
  protected:
    Folder()
        : folder_(std::filesystem::temp_directory_path() /
                  fmt::format("dynkin-{}-{}", ::getpid(),
                              testing::UnitTest::GetInstance()->current_test_info()->name())) {
        std::filesystem::create_directories(folder_);
    }
    ~Folder() override {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }
    std::filesystem::path path(const std::string& name) const { return folder_ / name; }
    SampleFile data(const Array<double>& x, const std::string& name = "data.npy") const {
        write_npy(path(name), x);
        return SampleFile(path(name));
    }

  private:
    std::filesystem::path folder_;
};

/// Covariance 0.5^|i - j|.
inline GaussianTarget correlated(size_t d, double mean) {
    Array<double> covariance(d, d);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j)
            covariance(i, j) = std::pow(0.5, std::abs(static_cast<double>(i) - static_cast<double>(j)));
    return gaussian(std::vector<double>(d, mean), covariance);
}

} // namespace dynkin::cases
